"""Finished runs side by side: read, compared on the same folds, and written for a paper."""
