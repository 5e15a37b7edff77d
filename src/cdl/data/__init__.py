"""collection, split, steps, labels, datasets."""
