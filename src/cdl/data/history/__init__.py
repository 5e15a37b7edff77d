"""versions that exist: compared, checked out, merged, made again, sealed again."""
