"""Tests of single targets."""
