"""The features that the authors of AV-CIL published: read, and written as a token cache."""
