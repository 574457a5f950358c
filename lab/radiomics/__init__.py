"""The classifier of enhancing tumours, from a prepared cohort to a fitted model. Runs without torch."""
