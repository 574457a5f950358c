"""Findings, notes and model cards as text."""
