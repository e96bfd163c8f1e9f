"""The program that asks the running application; it runs in a container, on the standard library alone."""
