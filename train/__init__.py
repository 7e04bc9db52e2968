"""Owns everything between cached tokens and a finished run; knows no video, decoder or encoder."""
