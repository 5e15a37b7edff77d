"""events, streams, batches and the index over them."""
