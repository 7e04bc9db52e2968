"""Heads in closed form on statistics of frozen tokens: no exemplars, no gradients, one pass over clips."""
