"""Token encoders: both encoders on one device, from prepared clips to tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avcil.cache import CacheInfo, Reduction, Tokens, TokenSpec
from avcil.cache.reduction import reduced, rounded
from avcil.cache.token_spec import Statistics
from avcil.errors import EncoderError
from avcil.extract.encoders.compiled import FixedBatch, Forward
from avcil.extract.encoders.encoder import Encoder
from avcil.extract.encoders.inputs import FramesInput
from avcil.extract.prepare import PreparedClip
from avcil.extract.recipe import Recipe, normalise

Precision = Literal["auto", "fp32", "bf16", "fp16"]
TokenType = Literal["float16", "float32", "int8"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TokenEncoder:
    """Both encoders on one device, with the recipe cut to what they take, and how their modules are run.

    `tokens` is the number type that visual tokens are rounded to, `reduction` what a cache then keeps of them
    (None: all).
    """

    visual: Encoder
    audio: Encoder
    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    visual_forward: Forward = field(repr=False)
    audio_forward: Forward = field(repr=False)
    tokens: TokenType = "float16"
    reduction: Reduction | None = None

    @classmethod
    def make(
        cls,
        visual: Encoder,
        audio: Encoder,
        recipe: Recipe,
        device: str,
        precision: Precision,
        *,
        compiled: bool = False,
        tokens: TokenType = "float16",
        grid: int | None = None,
        pool: Statistics | None = None,
    ) -> TokenEncoder:
        """Put the encoders on a device (`auto`: the GPU where there is one) in a precision.

        `auto` is fp16 on a GPU, finer than bf16 at the same speed, and fp32 on a CPU. `compiled`: through
        `torch.compile`, see `FixedBatch`. `grid` and `pool`: what is kept of visual tokens, see `Reduction`.
        Raises `EncoderError` for a device that is not there or fp16 on a CPU, `CacheError` for a grid that
        does not fit the tokens.
        """
        spec = TokenSpec(visual.token_shape, tokens)
        reduction = None if grid is None and pool is None else Reduction(spec, grid, pool)
        on = _device(device)
        name = precision_on(on.type, precision)
        visual.module.to(on)
        audio.module.to(on)
        assert isinstance(visual.input, FramesInput) and not isinstance(audio.input, FramesInput)
        return cls(
            visual=visual,
            audio=audio,
            recipe=recipe.fitted(visual.input, audio.input),
            device=on,
            dtype=_DTYPES[name],
            visual_forward=FixedBatch(visual.module) if compiled else visual.module,
            audio_forward=FixedBatch(audio.module) if compiled else audio.module,
            tokens=tokens,
            reduction=reduction,
        )

    @property
    def info(self) -> CacheInfo:
        """What a cache says of these tokens: visual [T, S, D] in the type asked for, audio float32 [D]."""
        spec = TokenSpec(self.visual.token_shape, self.tokens)
        return CacheInfo(
            visual=spec if self.reduction is None else self.reduction.spec,
            audio=TokenSpec(self.audio.token_shape, "float32"),
            recipe=self.recipe.to_dict(),
            visual_encoder=self.visual.info,
            audio_encoder=self.audio.info,
            precision=next(name for name, dtype in _DTYPES.items() if dtype == self.dtype),
            visual_reduction=self.reduction,
        )

    def encode(self, clips: Sequence[PreparedClip]) -> Tokens:
        """Encode a batch: visual [B, T, S, D], float16 unless float32 is stored, and audio float32 [B, D].

        Raises `EncoderError` where the batch does not fit into the device's memory, or where an encoder gives
        other tokens than it promised.
        """
        return self.run(*self.load(clips))

    def load(self, clips: Sequence[PreparedClip]) -> tuple[Tensor, Tensor]:
        """Bring frames uint8 [B, N, size, size, 3] and the audio encoder's input to the device."""
        on_gpu, batch = self.device.type == "cuda", []
        with self._memory_for(len(clips)):
            for arrays in ([clip.frames for clip in clips], [clip.mel for clip in clips]):
                tensor = torch.from_numpy(np.stack(arrays))
                # Pageable memory would be copied twice, by the CPU.
                batch.append((tensor.pin_memory() if on_gpu else tensor).to(self.device, non_blocking=True))
        if on_gpu:
            torch.cuda.synchronize(self.device)
        return batch[0], batch[1]

    def run(self, frames: Tensor, mel: Tensor) -> Tokens:
        """Encode a batch that is on the device, and bring its tokens back; see `encode`."""
        count = len(frames)
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with self._memory_for(count), torch.inference_mode(), mixed:
            visual = self.visual_forward(normalise(frames, self.recipe))
            audio = self.audio_forward(mel)
        _require_shape(visual, (count, *self.visual.token_shape), self.visual.name)
        _require_shape(audio, (count, *self.audio.token_shape), self.audio.name)
        visual = visual.float() if self.tokens == "float32" else visual.half()  # int8 is coarser than both
        return Tokens(visual=visual.cpu().numpy(), audio=audio.float().cpu().numpy())

    def kept(self, visual: np.ndarray) -> np.ndarray:
        """What a cache is given of encoded visual tokens [B, T, S, D]: all, or their `reduction`."""
        if self.reduction is None or not len(visual):
            return visual
        return np.stack([reduced(rounded(clip, self.tokens), self.reduction) for clip in visual])

    @contextmanager
    def _memory_for(self, count: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise EncoderError(
                f"{count} clips do not fit into the memory of {self.device}: lower --batch"
            ) from error


def device_names(text: str) -> list[str]:
    """Devices of `auto` (every GPU, else the CPU) or of a list like `cuda:0,cuda:1`."""
    if text == "auto":
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise EncoderError(f"devices {text!r}: give auto, or names like cuda:0,cuda:1")
    return names


def precision_on(device: str, precision: Precision) -> str:
    """What `auto` means on a device (by its name); raises `EncoderError` for fp16 on a CPU."""
    on_gpu = device.startswith("cuda")
    if precision == "auto":
        return "fp16" if on_gpu else "fp32"
    if precision == "fp16" and not on_gpu:
        raise EncoderError(f"precision fp16 needs a GPU; on {device} choose fp32 or bf16")
    return precision


def _require_shape(tokens: Tensor, shape: tuple[int, ...], name: str) -> None:
    if not isinstance(tokens, Tensor):
        raise EncoderError(f"encoder {name!r} gives a {type(tokens).__name__}, not one tensor")
    if not tokens.is_floating_point():
        raise EncoderError(f"encoder {name!r} gives {tokens.dtype} tokens, not real numbers")
    if tuple(tokens.shape) != shape:
        raise EncoderError(f"encoder {name!r} gives tokens {list(tokens.shape)} instead of {list(shape)}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"device {name!r}: unknown; give auto, cpu or cuda[:N]") from error
    if device.type not in ("cpu", "cuda"):
        raise EncoderError(f"device {name!r} is not supported; give auto, cpu or cuda[:N]")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise EncoderError(f"device {name!r}: there is no such GPU here; give auto or cpu")
    return device
