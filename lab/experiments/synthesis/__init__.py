"""Studies of networks."""
