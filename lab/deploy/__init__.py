"""Models used on new patients."""
