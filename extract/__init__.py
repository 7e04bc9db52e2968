"""Extraction: from video files to cached tokens.

`sources` lists clips; `engine` cuts what a cache lacks into blocks; `block` runs one, here or (`local`) in a
process for each device: `workers` decode (`media`) and prepare, `tokens` encodes, rows go to the cache.
"""
