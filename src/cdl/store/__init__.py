"""bytes: objects, trees, sealed trees, claims."""
