"""Stands beside each engine in its pod: says its load and when it may be stopped."""
