"""What is done with versions that exist: compare, check out, merge, make again, seal again."""
