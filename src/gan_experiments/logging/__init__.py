"""Records of a run: metrics.jsonl (the truth), Weights & Biases, and the progress line."""
