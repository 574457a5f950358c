"""From a prepared cohort to a synthetic post-contrast T1 (torch)."""
