"""Findings, notes and model cards in words."""
