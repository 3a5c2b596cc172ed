"""When an engine pod counts as ready: when the pool's routers send requests to it."""
