"""A pool and its traffic in simulated time; the scheduler in it is the router's own."""
