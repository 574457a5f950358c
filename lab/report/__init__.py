"""From numbers to tables, text, figures and pages."""
