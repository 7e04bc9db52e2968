"""Media files: the wanted frames and the sound of one clip."""
