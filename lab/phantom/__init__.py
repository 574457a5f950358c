"""Digital phantom of glioma patients with known ground truth."""
