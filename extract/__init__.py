"""Owns the way from video files to cached tokens; knows nothing of training or reports.

The road, one module a station: `manifest` (which clips) -> `decode` (frames and sound) -> `preprocess`
(what an encoder sees) -> `encoders` (tokens) -> `engine` (all of it, resumable, into a cache). Nothing is
imported here, so that reading a manifest loads neither torch nor a decoder.
"""
