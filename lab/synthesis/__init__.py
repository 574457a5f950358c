"""Training a network that turns T1, T2 and FLAIR into a post-contrast T1 (torch)."""
