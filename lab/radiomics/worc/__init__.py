"""WORC on the same patients and splits."""
