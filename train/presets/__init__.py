"""Published protocols as data files."""
