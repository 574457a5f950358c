"""The classifier: pipeline steps, search of the settings, nested cross-validation, final model."""
