"""which page a name means, and what stands on it."""
