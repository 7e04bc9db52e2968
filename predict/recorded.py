"""Owns finding the encoders again that tokens came from, by what a cache says of them; knows no clip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import cast

from avcil.cache import CacheInfo, EncoderInfo
from avcil.cache.schema import differences
from avcil.errors import EncoderError
from avcil.extract.devices import device_names
from avcil.extract.encoders.hub import NAME
from avcil.extract.encoders.own import Kind, is_own
from avcil.extract.encoders.registry import (
    AUDIO_ENCODERS,
    VISUAL_ENCODERS,
    build_audio_encoder,
    build_visual_encoder,
)
from avcil.extract.recipe import Recipe
from avcil.extract.tokens import Precision, TokenEncoder, TokenType


@dataclass(frozen=True)
class EncoderSource:
    """An encoder and its weights as `avcil extract` is given them; None: as the tokens' record says."""

    encoder: str | None = None
    weights: str | None = None


def build_recorded_encoder(
    info: CacheInfo, visual: EncoderSource, audio: EncoderSource, device: str = "auto"
) -> TokenEncoder:
    """Build the encoders that made tokens like `info`, with their recipe, precision and number type.

    Random weights and those of the hub are found by what the record says of them; the place of a file is not
    in it and has to be given. Tokens of fp16 are made in fp32 where there is no GPU: they differ by rounding.

    Raises:
        EncoderError: weights or a factory are needed, or what was given makes other tokens.
    """
    seer = build_visual_encoder(*_found("visual", info.visual_encoder, visual, VISUAL_ENCODERS))
    _require_same("visual", info.visual_encoder, seer.info)
    hearer = build_audio_encoder(*_found("audio", info.audio_encoder, audio, AUDIO_ENCODERS))
    _require_same("audio", info.audio_encoder, hearer.info)
    place = device_names(device)[0]
    precision = info.precision or "auto"
    if precision == "fp16" and not place.startswith("cuda"):
        precision = "fp32"
    encoder = TokenEncoder.make(
        seer,
        hearer,
        _recipe(info),
        place,
        cast("Precision", precision),
        tokens=cast("TokenType", info.visual.dtype),
    )
    here = replace(encoder.info, precision=info.precision)
    if differing := differences(info, here, introduced=("the run has", "these encoders give")):
        raise EncoderError(f"the run's tokens cannot be made: {differing[0]}")
    return encoder


def _recipe(info: CacheInfo) -> Recipe:
    try:
        return Recipe.from_dict(info.recipe)
    except (ValueError, TypeError) as error:
        raise EncoderError(f"the tokens' recipe is none for videos ({error})") from error


def _found(
    kind: Kind, recorded: EncoderInfo, given: EncoderSource, ours: Collection[str]
) -> tuple[str, str | None]:
    """Name and weights of an encoder, from what was given and what was recorded."""
    name = given.encoder or recorded.name
    if is_own(name):
        return name, given.weights
    if name not in ours:
        raise EncoderError(
            f"the {kind} tokens came from {recorded.name!r}, which is not an encoder of avcil's; give its "
            f"factory with --{kind}-encoder package.module:factory"
        )
    weights = given.weights or _recorded_weights(recorded)
    if weights is None:
        raise EncoderError(f"{_came_from(kind, recorded)}; give the file with --{kind}-weights")
    return name, weights


def _recorded_weights(recorded: EncoderInfo) -> str | None:
    """`random`, or the name on the hub with its commit; None where a file was given."""
    if recorded.weights.startswith("random"):
        return "random"
    origin = recorded.weights.rpartition(", from ")[2]
    return origin if NAME.fullmatch(origin) and "@" in origin else None


def _require_same(kind: Kind, recorded: EncoderInfo, built: EncoderInfo) -> None:
    if built.fingerprint != recorded.fingerprint:
        what = f"{built.name}, {built.weights}" + _hash(built)
        option = f"--{kind}-weights" if built.name == recorded.name else f"--{kind}-encoder"
        raise EncoderError(f"{_came_from(kind, recorded)}, not from {what}; give the right one with {option}")


def _came_from(kind: Kind, recorded: EncoderInfo) -> str:
    return f"the {kind} tokens came from {recorded.name} weights{_hash(recorded)} ({recorded.weights})"


def _hash(info: EncoderInfo) -> str:
    return f" with sha256 {info.weights_sha256}" if info.weights_sha256 else ""
