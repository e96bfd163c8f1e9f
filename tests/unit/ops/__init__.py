"""Tests of what is told of deployments."""
