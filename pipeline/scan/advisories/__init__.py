"""Known vulnerabilities: advisories in the OSV schema, the order of versions, matching, and the sources."""
