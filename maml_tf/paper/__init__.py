"""The rows of the paper, what was measured of them, and trained weights: files and facts."""
