"""The classifier: its steps, the search of its settings, nested cross-validation, the final model."""
