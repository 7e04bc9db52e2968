"""avcil: audio-visual class-incremental learning on cached tokens of frozen encoders."""

__version__ = "0.1.0"
