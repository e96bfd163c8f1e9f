"""Load tests: an open workload of our own, Locust for closed ones, thresholds, and a sound comparison.

`histogram`, `http1`, `generator`, `probe`, `sampler` and `listener` run inside containers on a plain Python:
they import the standard library and each other, nothing else.
"""
