"""Frozen encoders: networks, their published weights, and the factories of users."""
