"""A trained network on an image: prediction, tiles, test-time augmentation, calibration."""
