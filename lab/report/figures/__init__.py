"""Figures; with `classifier` the only home of matplotlib."""
