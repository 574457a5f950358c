"""Commands of `python -m lab`. Imports are late, so that `--help` answers at once."""
