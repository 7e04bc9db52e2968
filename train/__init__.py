"""Training: from cached tokens to a finished run."""
