"""Figures of a synthetic image, for one patient and for a group."""
