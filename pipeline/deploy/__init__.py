"""Brings releases to environments and back: steps, journal, lock, history, and the targets."""
