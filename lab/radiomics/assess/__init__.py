"""How good a classifier is, and what it rests on."""
