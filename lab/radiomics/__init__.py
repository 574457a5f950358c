"""From a prepared cohort to a classifier of enhancing tumours. Runs without torch."""
