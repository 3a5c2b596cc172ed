"""Fetches one model at one revision into a folder of the cache, whole or not at all."""
