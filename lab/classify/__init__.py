"""From a prepared cohort to "will this tumour enhance?". Runs without torch."""
