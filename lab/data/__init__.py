"""From files on disk to a prepared cohort. No torch below `batches.py`."""
