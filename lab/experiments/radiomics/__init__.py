"""Experiments of the radiomics arm: classifiers, WORC, and their comparison."""
