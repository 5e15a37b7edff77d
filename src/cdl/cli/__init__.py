"""front end: parse, call, print."""
