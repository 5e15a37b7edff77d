"""sync: branches, refs, streams, objects, and what this clone trusts."""
