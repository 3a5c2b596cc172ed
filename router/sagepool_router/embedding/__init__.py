"""Merging callers' embedding requests into one engine call and cutting its answer back: pure."""
