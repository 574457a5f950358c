"""MLflow and the databases: where runs, tables, files and models are kept."""
