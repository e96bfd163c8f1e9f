"""Trivy as a judge of packages: its server over HTTP, and its program where it is installed."""
