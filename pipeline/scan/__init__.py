"""Scanners, findings, and the one verdict about them."""
