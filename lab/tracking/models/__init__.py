"""Models as MLflow packages: writing, loading, verification."""
