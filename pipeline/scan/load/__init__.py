"""Load tests: an open workload of our own, Locust for closed ones, thresholds, and a sound comparison.

What `programs` names runs inside containers on a plain Python: it imports the standard library
and each other.
"""
