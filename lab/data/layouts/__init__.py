"""Where data sets keep their scans, labels and clinical values."""
