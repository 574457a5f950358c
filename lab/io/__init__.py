"""Bytes to arrays and back: scans, headers, prepared cases, folders of results, worker processes."""
