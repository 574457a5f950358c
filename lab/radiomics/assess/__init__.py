"""Assessment of classifiers: performance and feature importance."""
