"""Studies: planning, queue, workers, resumption, reports."""
