"""where files come from, what lies there and what changed there."""
