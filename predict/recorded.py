"""The encoders that recorded tokens came from, built again by what a cache or a run says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast, get_args

from avcil.cache import CacheInfo, EncoderInfo
from avcil.cache.schema import differences
from avcil.errors import EncoderError
from avcil.extract.encoders.encoder import Encoder, Modality
from avcil.extract.encoders.registry import ENCODERS, build_encoder
from avcil.extract.recipe import Recipe
from avcil.extract.tokens import Precision, TokenEncoder, TokenType, device_names
from avcil.user_code import is_user_code


@dataclass(frozen=True)
class EncoderSource:
    """An encoder and its weights as `avcil extract` is given them; None: as the tokens' record says."""

    encoder: str | None = None
    weights: str | None = None


def build_recorded_encoder(
    info: CacheInfo, visual: EncoderSource, audio: EncoderSource, device: str = "auto"
) -> TokenEncoder:
    """Build the encoders that made tokens like `info`: the same recipe, precision, number type, reduction.

    Random weights and those of the hub are found by what the record says of them; where a file lies is not
    in it and has to be given. Tokens of fp16 are made in fp32 where there is no GPU: they differ by rounding.

    Raises:
        EncoderError: weights or a factory are needed, or what was given makes other tokens.
    """
    reduction = info.visual_reduction
    device = device_names(device)[0]
    precision = info.precision or "auto"
    if precision not in get_args(Precision):
        raise EncoderError(
            f"the tokens were made in {precision!r}; which is none of {', '.join(get_args(Precision))}"
        )
    if precision == "fp16" and not device.startswith("cuda"):
        precision = "fp32"
    encoder = TokenEncoder.make(
        _build("visual", info.visual_encoder, visual),
        _build("audio", info.audio_encoder, audio),
        _recipe(info),
        device,
        cast("Precision", precision),
        tokens=cast("TokenType", (info.visual if reduction is None else reduction.of).dtype),
        grid=None if reduction is None else reduction.grid,
        pool=None if reduction is None else reduction.statistics,
    )
    here = replace(encoder.info, precision=info.precision)
    if differing := differences(info, here, introduced=("the run has", "these encoders give")):
        raise EncoderError(f"the run's tokens cannot be made: {differing[0]}")
    return encoder


def _recipe(info: CacheInfo) -> Recipe:
    try:
        return Recipe.from_dict(info.recipe)
    except (ValueError, EncoderError) as error:
        raise EncoderError(f"the tokens' recipe is none for videos ({error})") from error


def _build(modality: Modality, recorded: EncoderInfo, given: EncoderSource) -> Encoder:
    """Build an encoder from what was given and what was recorded; raises where it is another one."""
    name = given.encoder or recorded.name
    weights = given.weights
    if not is_user_code(name):
        if name not in ENCODERS[modality]:
            raise EncoderError(
                f"the {modality} tokens came from {recorded.name!r}, which is not an encoder of avcil's; "
                f"give its factory with --{modality}-encoder package.module:factory"
            )
        weights = weights or _recorded_weights(recorded)
        if weights is None:
            raise EncoderError(f"{_came_from(modality, recorded)}; give the file with --{modality}-weights")
    encoder = build_encoder(modality, name, weights)
    if encoder.info.fingerprint != recorded.fingerprint:
        what = f"{encoder.name}, {encoder.weights}" + _hash(encoder.info)
        option = f"--{modality}-weights" if encoder.name == recorded.name else f"--{modality}-encoder"
        raise EncoderError(
            f"{_came_from(modality, recorded)}, not from {what}; give the right one with {option}"
        )
    return encoder


def _recorded_weights(recorded: EncoderInfo) -> str | None:
    """`random`, or the repository on the hub with its commit; None where a file was given."""
    weights = recorded.weights
    if weights.kind == "hub":
        return f"{weights.repository}@{weights.commit}"
    return "random" if weights.kind == "random" else None


def _came_from(modality: Modality, recorded: EncoderInfo) -> str:
    return f"the {modality} tokens came from {recorded.name} weights{_hash(recorded)} ({recorded.weights})"


def _hash(info: EncoderInfo) -> str:
    return f" with sha256 {info.weights.sha256}" if info.weights.sha256 else ""
