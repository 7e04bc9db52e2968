"""Performance claims, each a command that prints one JSON object as its last line."""
