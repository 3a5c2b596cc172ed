"""Where the routing table comes from: the API server or a file."""
