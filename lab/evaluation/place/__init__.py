"""Where an image enhances: counts of voxels by contrast or stated probability, and their figures."""
