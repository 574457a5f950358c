"""Studies of synthesis networks."""
