"""cdl.yaml as frozen structs."""
