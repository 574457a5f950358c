"""Image quality: hard limits, checks of a scan, and detection of out-of-distribution patients."""
