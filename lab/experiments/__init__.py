"""Studies: planned, queued, run by workers, resumed, reported."""
