"""A finished run on new videos: classes, scores, attention."""
