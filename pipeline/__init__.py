"""Delivery pipelines as async Python functions over Dagger containers."""
