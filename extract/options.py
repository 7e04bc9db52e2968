"""Options of an extraction, and the encoders that they describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from avcil.cache.token_spec import Statistics
from avcil.errors import ConfigError
from avcil.extract.encoders.registry import build_encoder
from avcil.extract.media.contract import Backend, Track
from avcil.extract.recipe import RECIPES
from avcil.extract.tokens import Precision, TokenEncoder, TokenType
from avcil.machine import usable_cores

BATCH_CPU, BATCH_GPU = 8, 32


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract. `workers=None`: one per usable core; 0: in this process. `batch=None`: by device.

    `deadline_s`: seconds a clip may take to decode. `retry_failed`: try clips again that failed before.
    `allow_missing`: {"audio"} encodes a clip without sound with silence, and flags it.
    `compile`: run the encoders through torch.compile. `tokens`: what a cache stores visual tokens in.
    `pool`: store only these statistics of them, as float32; `grid`: N, averaged to N x N places first.
    """

    visual_encoder: str = "videomae-base"
    audio_encoder: str = "audiomae-base"
    visual_weights: str | None = None
    audio_weights: str | None = None
    recipe: str = "recommended"
    decoder: Backend = "auto"
    workers: int | None = None
    batch: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    deadline_s: float = 60.0
    retry_failed: bool = False
    allow_missing: frozenset[Track] = frozenset()
    compile: bool = False
    tokens: TokenType = "float16"
    pool: Statistics | None = None
    grid: int | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("recipe", self.recipe, tuple(RECIPES)),
            ("decoder", self.decoder, get_args(Backend)),
            ("precision", self.precision, get_args(Precision)),
            ("tokens", self.tokens, get_args(TokenType)),
            ("pool", self.pool, (None, *get_args(Statistics))),
        ):
            if value not in allowed:
                raise ConfigError(
                    f"{name} is {value!r}; it must be one of {', '.join(filter(None, allowed))}"
                )
        for name, number, least in (
            ("workers", self.workers, 0),
            ("batch", self.batch, 1),
            ("grid", self.grid, 1),
        ):
            if number is not None and number < least:
                raise ConfigError(f"{name} is {number}; it must be at least {least}")
        for track in self.allow_missing - set(get_args(Track)):
            raise ConfigError(f"allow_missing is {track!r}; only the audio may be missing")
        if not self.deadline_s > 0:
            raise ConfigError(f"deadline_s is {self.deadline_s}; it must be above 0")

    @property
    def batch_size(self) -> int:
        """Clips per encoder pass on this device."""
        return self.batch or (BATCH_GPU if self.device.startswith("cuda") else BATCH_CPU)

    @property
    def decode_workers(self) -> int:
        """Processes that decode; 0: this one."""
        return usable_cores() if self.workers is None else self.workers

    def shared_out(self, device: str, n_clips: int, n_devices: int = 1) -> ExtractOptions:
        """The options of one of several devices that encode n clips: each has its part of the workers."""
        workers = min(-(-self.decode_workers // n_devices), max(1, n_clips))
        return replace(self, device=device, workers=workers)


def build_token_encoder(options: ExtractOptions) -> TokenEncoder:
    """Build both encoders with the recipe on the device; raises `EncoderError`."""
    visual = build_encoder("visual", options.visual_encoder, options.visual_weights)
    audio = build_encoder("audio", options.audio_encoder, options.audio_weights)
    recipe = RECIPES[options.recipe]
    return TokenEncoder.make(
        visual,
        audio,
        recipe,
        options.device,
        options.precision,
        compiled=options.compile,
        tokens=options.tokens,
        grid=options.grid,
        pool=options.pool,
    )
