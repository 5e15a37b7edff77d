"""Where raw files come from: folders, archives, addresses, buckets and commands; what lies there, and what changed there."""
