"""What one item is: a file, a row of a table, an entry of an array; and what kind of thing its bytes are."""
