"""implementation, compression, revision, package, service."""
