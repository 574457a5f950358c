"""MLflow runs, the databases, and models as MLflow packages."""
