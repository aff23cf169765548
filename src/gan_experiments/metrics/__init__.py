"""Scores: features, distances between sets of samples, and the evaluator that runs them in one pass."""
