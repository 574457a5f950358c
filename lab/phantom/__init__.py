"""Digital glioma patients with a known truth."""
