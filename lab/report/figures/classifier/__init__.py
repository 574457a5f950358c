"""Figures of the classifier arm."""
