"""MLflow and Optuna: what is run, logged, resumed and promoted."""
