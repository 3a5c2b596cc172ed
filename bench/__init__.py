"""Measures what the router costs, beside other ways to do the same, in one run."""
