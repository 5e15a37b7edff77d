"""every call to git."""
