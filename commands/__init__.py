"""The commands, one module each: options in, rooms composed, words out. Nothing is computed here."""
