"""The engine without root: a user namespace to be root in, and a way out for its networks."""
