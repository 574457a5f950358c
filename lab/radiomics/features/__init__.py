"""Radiomic features: extraction, cache, maps, stability."""
