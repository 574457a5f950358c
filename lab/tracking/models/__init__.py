"""Models as MLflow packages: written, fetched, verified."""
