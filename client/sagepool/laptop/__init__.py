"""A pool on this machine: the router from a file, and its engines as child processes."""
