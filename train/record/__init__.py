"""The record of a run: its files, its numbers, its circumstances."""
