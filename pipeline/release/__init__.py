"""Releases: which version comes next, what it says, and how it gets out whole or not at all."""
