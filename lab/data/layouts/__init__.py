"""Layouts of data sets: files of scans, labels and clinical values."""
