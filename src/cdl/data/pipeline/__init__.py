"""the stages that make a version: collect, split, ingest, data steps; only what is new or changed is worked."""
