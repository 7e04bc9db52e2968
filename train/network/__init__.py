"""The trained network: fusion, attention and classifier."""
