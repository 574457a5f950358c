"""Preparation of cohorts from files on disk, and batches for training. Only `batches.py` imports torch."""
