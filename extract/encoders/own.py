"""Owns finding a user's encoder: `package.module:factory` in, an `OwnEncoder` with its fingerprint out."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from typing import Literal, cast

from avcil.errors import EncoderError
from avcil.extract.encoders.contract import FramesInput, OwnEncoder
from avcil.extract.encoders.weights import fingerprint
from avcil.user_code import find_object, is_user_code

Kind = Literal["visual", "audio"]


def is_own(name: str) -> bool:
    """Say whether an encoder's name is that of a factory."""
    return is_user_code(name)


def load_own_encoder(kind: Kind, name: str, weights: str | None) -> OwnEncoder:
    """Call the factory `package.module:factory` with `weights`, and give what it makes with a fingerprint.

    Modules are looked for as Python does and then in the current folder. Raises `EncoderError` where the
    factory cannot be found or fails, or makes something else than an encoder of this kind.
    """
    option = f"--{kind}-encoder {name}"
    factory = _factory(option, name)
    try:
        own = factory(weights)
    except EncoderError:
        raise
    except Exception as error:  # a user's code: whatever it raises is theirs to mend
        raise EncoderError(f"{option}: the factory failed ({type(error).__name__}: {error})") from error
    if not isinstance(own, OwnEncoder):
        raise EncoderError(f"{option}: the factory gave a {type(own).__name__}, not an OwnEncoder")
    if isinstance(own.input, FramesInput) != (kind == "visual"):
        raise EncoderError(
            f"{option}: {own.name!r} takes {type(own.input).__name__}; a visual encoder takes FramesInput, "
            "an audio encoder MelInput or WaveformInput"
        )
    return dataclasses.replace(own, fingerprint=_fingerprint(option, own))


def _factory(option: str, name: str) -> Callable[[str | None], object]:
    factory = find_object(option, name, EncoderError)
    if not callable(factory):
        raise EncoderError(f"{option}: it is a {type(factory).__name__}, not a function")
    return cast("Callable[[str | None], object]", factory)


def _fingerprint(option: str, own: OwnEncoder) -> str:
    if own.fingerprint is None:
        facts = {
            "name": own.name,
            "input": {"kind": type(own.input).__name__, **dataclasses.asdict(own.input)},
            "token_shape": own.token_shape,
        }
        return fingerprint(facts, own.module)
    if len(own.fingerprint) != 64 or set(own.fingerprint) - set(string.hexdigits.lower()):
        raise EncoderError(
            f"{option}: fingerprint {own.fingerprint!r} is not 64 lower-case hexadecimal digits"
        )
    return own.fingerprint
