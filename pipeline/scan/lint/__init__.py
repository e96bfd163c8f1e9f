"""Linters of files that are no Python: one file for each tool."""
