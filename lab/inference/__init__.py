"""Inference of trained networks: prediction, tiles, test-time augmentation, calibration."""
