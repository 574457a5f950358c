"""`python -m lab COMMAND`. Imports are late, so that `--help` answers at once."""
