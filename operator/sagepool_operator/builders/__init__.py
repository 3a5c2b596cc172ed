"""Kubernetes objects of a pool, from its spec alone. Pure: none reads a clock or the network."""
