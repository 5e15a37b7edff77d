"""implementation, compression, revision, package, manifest, service."""
