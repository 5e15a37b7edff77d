"""bytes: objects, chunks, packs, tables, trees, sealed trees, claims."""
