"""A cache that travels: what an engine made, as one OCI artifact in a directory or a registry."""
