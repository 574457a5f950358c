"""Input and output: scans, headers, prepared cases, output folders, worker processes."""
