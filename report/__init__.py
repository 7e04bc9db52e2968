"""Owns what people see of a run: tables, progress. Reads results; trains and decodes nothing."""
