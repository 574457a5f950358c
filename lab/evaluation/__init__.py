"""How good a synthetic image is: every figure, for one patient and for a group."""
