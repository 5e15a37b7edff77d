"""what goes, what is broken, what an older version left: gc, doctor, upgrade."""
