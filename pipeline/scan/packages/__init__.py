"""Packages that a project names or that are installed, as its lock files, environments and images tell."""
