"""The stages that make a version: collect, split, ingest, then each data step; only what is new or changed is worked."""
