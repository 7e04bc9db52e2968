"""Elementwise kernels of the fused attention on a block of frames, plain or compiled.

Everything is computed in the precision of the gate; what arrives in 16 bit is widened on the way in.
Letters: F frames of a block, S space, D width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

NUMBERS_THAT_PAY = 10**10  # compiling takes 10 to 40 s; each number of a clip then costs 4 ns less on a core


class BlockSums(NamedTuple):
    """A block after the softmax over space.

    Attributes:
        projected: P [F, S, D] in the precision of the products.
        total: Z [F, D], the sum of exp(P a) over S.
        projected_mean: q [F, D], P summed under the attention.
        token_mean: v [F, D], tokens summed under the attention.
    """

    projected: Tensor
    total: Tensor
    projected_mean: Tensor
    token_mean: Tensor


class SpatialMap(NamedTuple):
    """A spatial map in the form that the kernels rebuild it from.

    Attributes:
        projected: P [F, S, D].
        gate: a [F, D].
        share: 1 / Z [F, D].
    """

    projected: Tensor
    gate: Tensor
    share: Tensor

    def part(self, frames: slice) -> SpatialMap:
        """The map of some of the frames."""
        return SpatialMap(self.projected[frames], self.gate[frames], self.share[frames])


def project(hidden: Tensor, wide: torch.dtype) -> Tensor:
    """P = tanh(H) [F, S, D] in the precision of H, computed in `wide`."""
    # tanh(x) = 2 sigmoid(2x) - 1: one exponential, a third of the time of tanh itself.
    return (2 * torch.sigmoid(2 * hidden.to(wide)) - 1).to(hidden.dtype)


def attend(hidden: Tensor, tokens: Tensor, gate: Tensor) -> BlockSums:
    """Attention over space from the projection H [F, S, D], the tokens V [F, S, D] and the gate a [F, D]."""
    projected = project(hidden, gate.dtype)
    wide = projected.to(gate.dtype)
    weight = (wide * gate[:, None]).exp()
    total = weight.sum(1)
    return BlockSums(
        projected, total, (weight * wide).sum(1) / total, (weight * tokens.to(gate.dtype)).sum(1) / total
    )


def divergence(new: SpatialMap, old: SpatialMap) -> Tensor:
    """KL(old || new) over S [F, D]: sum of alpha_old (s_old - s), plus log Z - log Z_old.

    The scores are subtracted first, so equal maps diverge by exactly nothing and similar ones cancel little.
    """
    scores = new.projected.to(new.gate.dtype) * new.gate[:, None]
    old_scores = old.projected.to(old.gate.dtype) * old.gate[:, None]
    old_alpha = old_scores.exp() * old.share[:, None]
    return (old_alpha * (old_scores - scores)).sum(1) + (old.share / new.share).log()


def differentiate(
    new: SpatialMap,
    tokens: Tensor,
    means: tuple[Tensor, Tensor],
    gradients: tuple[Tensor, Tensor],
    old: tuple[SpatialMap, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients at H [F, S, D] (in the tokens' precision), at the gate and at the bias (both [F, D]).

    Args:
        new: the map as it was kept.
        tokens: V [F, S, D].
        means: q and v [F, D].
        gradients: of the objective at q and at v [F, D].
        old: the teacher's map and the gradient at the divergence from it [F, D].
    """
    gate = new.gate[:, None]
    q, v = (mean[:, None] for mean in means)
    dq, dv = (gradient[:, None] for gradient in gradients)
    p = new.projected.to(gate.dtype)
    alpha = (p * gate).exp() * new.share[:, None]
    ds = alpha * (dv * (tokens.to(gate.dtype) - v) + dq * (p - q))
    if old is not None:
        (old_projected, old_gate, old_share), weight = old
        old_alpha = (old_projected.to(gate.dtype) * old_gate[:, None]).exp() * old_share[:, None]
        ds = ds + weight[:, None] * (alpha - old_alpha)
    dh = (alpha * dq + ds * gate) * (1 - p * p)
    return dh.to(tokens.dtype), (ds * p).sum(1), dh.sum(1)


class Kernels:
    """The four functions, compiled or as they are.

    Shapes are a block's, so neither the batch nor the number of classes ever makes them compile again. Where
    compiling does not work (no C++ compiler), it warns once and goes on without.
    """

    def __init__(self, *, compiled: bool) -> None:
        self.compiled = compiled
        self.project: Callable[..., Tensor] = self._prepare(project)
        self.attend: Callable[..., BlockSums] = self._prepare(attend)
        self.divergence: Callable[..., Tensor] = self._prepare(divergence)
        self.differentiate: Callable[..., tuple[Tensor, Tensor, Tensor]] = self._prepare(differentiate)

    def _prepare(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        fast: Callable[..., Any] | None = None

        def run(*arguments: Any) -> Any:
            nonlocal fast
            if not self.compiled:
                return plain(*arguments)
            try:
                fast = fast or torch.compile(plain)
                return fast(*arguments)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a compiler throws; what the function does, it does again
                self.compiled = False
                reason = next(iter(str(error).splitlines()), "")
                warnings.warn(
                    f"torch.compile does not work here, going on without ({type(error).__name__}: {reason})",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return plain(*arguments)

        return run


def compiling_pays(clips: int, numbers_per_clip: int, epochs: int) -> bool:
    """Whether a step is so long that compiled kernels save more time than compiling them takes."""
    return clips * numbers_per_clip * epochs >= NUMBERS_THAT_PAY
