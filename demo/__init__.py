"""The demo data set: rendered videos of twelve classes."""
