"""what one item is: a file, a row, an entry of an array; what kind of thing its bytes are."""
