"""WORC as a second classifier on the same patients and splits."""
