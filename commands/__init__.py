"""Owns the commands, one module each: options in, rooms composed, words out. Computes nothing itself."""
