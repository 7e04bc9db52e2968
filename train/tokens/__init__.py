"""The tokens of a step: where they stay, and how batches of them come."""
