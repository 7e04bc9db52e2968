"""Encoders by name: the name of one of ours, or `package.module:factory` of a user's, becomes an `Encoder`.

Either name stands for a factory, which is given the weights as they were named and gives the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from avcil.errors import EncoderError
from avcil.extract.encoders import audiomae, videomae
from avcil.extract.encoders.encoder import Encoder, Modality
from avcil.user_code import find_object, is_user_code

Factory = Callable[[str | None], Encoder]

ENCODERS: dict[Modality, dict[str, Factory]] = {
    "visual": {name: partial(videomae.videomae, config) for name, config in videomae.CONFIGS.items()},
    "audio": {name: partial(audiomae.audiomae, config) for name, config in audiomae.CONFIGS.items()},
}


def build_encoder(modality: Modality, name: str, weights: str | None = None) -> Encoder:
    """Build an encoder by name, with its fingerprint.

    Modules of factories are searched for as Python does and then in the current folder. Raises `EncoderError`
    for an unknown name, weights that are missing or do not fit, and a factory that fails or makes something
    else than an encoder of this modality.
    """
    if is_user_code(name):
        encoder = _call(f"--{modality}-encoder {name}", modality, name, weights)
    elif name in ENCODERS[modality]:
        encoder = ENCODERS[modality][name](weights)
    else:
        raise EncoderError(
            f"unknown {modality} encoder {name!r}: known are {', '.join(sorted(ENCODERS[modality]))}, "
            "and package.module:factory for one of your own"
        )
    return replace(encoder, fingerprint=encoder.info.fingerprint)


def _call(option: str, modality: Modality, name: str, weights: str | None) -> Encoder:
    """Call a user's factory."""
    factory = find_object(option, name, EncoderError)
    if not callable(factory):
        raise EncoderError(f"{option}: it is a {type(factory).__name__}, not a function")
    try:
        encoder = factory(weights)
    except EncoderError:
        raise
    except Exception as error:  # whatever a user's code raises
        raise EncoderError(f"{option}: the factory failed ({type(error).__name__}: {error})") from error
    if not isinstance(encoder, Encoder):
        raise EncoderError(f"{option}: the factory gave a {type(encoder).__name__}, not an Encoder")
    if encoder.modality != modality:
        raise EncoderError(
            f"{option}: {encoder.name!r} takes {type(encoder.input).__name__}; a visual encoder takes "
            "FramesInput, an audio encoder MelInput or WaveformInput"
        )
    return encoder
