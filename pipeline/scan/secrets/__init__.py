"""Secrets in files, commits, image layers and logs: an engine of our own, and gitleaks beside it."""
