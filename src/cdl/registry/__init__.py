"""what is kept: records and heads in the user's git repository."""
