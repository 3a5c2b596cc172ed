"""How many engines a group needs, from what its routers report."""
