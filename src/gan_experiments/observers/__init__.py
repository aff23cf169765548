"""What acts after the fact: averages, grids, scores, checkpoints, diagnostics."""
