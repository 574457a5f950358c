"""Figures; matplotlib is imported only here and in `classifier`."""
