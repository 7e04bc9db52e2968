"""An encoder: a frozen network, what it is given, what it gives, and where its weights came from.

Letters: B batch, T time, S space, D width.
"""

from __future__ import annotations

import dataclasses
import string
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from avcil.cache.schema import EncoderInfo, WeightsOrigin
from avcil.extract.encoders.inputs import FramesInput, MelInput, WaveformInput
from avcil.extract.encoders.weights import fingerprint

Modality = Literal["visual", "audio"]


@dataclass(frozen=True)
class Encoder:
    """A frozen network, visual or audio, and what has to be known of it.

    Making one puts the module into `eval()` and freezes its parameters.

    Attributes:
        module: takes one tensor as `input` says and gives one tensor [B, *token_shape].
        name: goes into the cache and into the fingerprint. Change it when the code changes what it computes:
            the fingerprint covers weights, not code.
        input: what the module is given; decides whether the encoder is visual or audio.
        token_shape: (T, S, D) of a visual encoder, (D,) of an audio encoder.
        weights: where the weights came from; goes into the cache.
        fingerprint: 64 lower-case hexadecimal digits that change with the weights; None: computed from
            `name`, `input`, `token_shape` and the whole `state_dict`.

    Raises:
        ValueError: a field is not of this form.
    """

    module: nn.Module = field(repr=False)
    name: str
    input: FramesInput | MelInput | WaveformInput
    token_shape: tuple[int, ...]
    weights: WeightsOrigin = field(default_factory=WeightsOrigin)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise ValueError(f"module is a {type(self.module).__name__}, not a torch.nn.Module")
        if not isinstance(self.input, FramesInput | MelInput | WaveformInput):
            raise ValueError(
                f"input is a {type(self.input).__name__}; it must be a FramesInput, MelInput or WaveformInput"
            )
        if not isinstance(self.weights, WeightsOrigin):
            raise ValueError(f"weights is a {type(self.weights).__name__}; it must be a WeightsOrigin")
        if not self.name:
            raise ValueError("name is empty")
        expected = "(T, S, D)" if self.modality == "visual" else "(D,)"
        axes = len(expected.split())
        if len(self.token_shape) != axes or any(type(n) is not int or n < 1 for n in self.token_shape):
            raise ValueError(
                f"token_shape is {self.token_shape!r}; it must be {expected}, whole numbers above 0"
            )
        given = self.fingerprint
        if given is not None and (len(given) != 64 or set(given) - set(string.hexdigits.lower())):
            raise ValueError(f"fingerprint {given!r} is not 64 lower-case hexadecimal digits")
        self.module.eval().requires_grad_(False)

    @property
    def modality(self) -> Modality:
        """What it encodes."""
        return "visual" if isinstance(self.input, FramesInput) else "audio"

    @property
    def info(self) -> EncoderInfo:
        """What a cache records of it; takes a hash of all weights where no `fingerprint` was given."""
        facts = {
            "name": self.name,
            "input": {"kind": type(self.input).__name__, **dataclasses.asdict(self.input)},
            "token_shape": self.token_shape,
        }
        return EncoderInfo(self.name, self.fingerprint or fingerprint(facts, self.module), self.weights)
