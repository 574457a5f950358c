"""Studies of classifiers."""
