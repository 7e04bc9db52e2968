"""How fast is one update of AV-CIL, and how much of it is matrix products?

    python -m benchmarks.train_step                 32 + 16 clips of 8 x 196 x 768, one thread
    python -m benchmarks.train_step --eager         the fast form without compiled kernels

Three ways through the same update at step 1 (stored float16 tokens, forward, all terms of the objective,
backward, Adam), on the same clips from the same weights, one after the other in every repeat:

* reference: the batch in float32, the readable attention, the teacher run on every batch, as published;
* fp32: what `avcil train --precision fp32` does: clips widened one by one, the teacher's outputs known;
* auto: the same with products in the precision that suits the machine.

Times are medians of processor seconds (`time.process_time`), so that other programs on the machine count
little. `gemm_fraction` is the time that the update's two large products take alone, in the same precision and
in shapes of one clip, over the update's. Gradients are compared by |fast - reference| / |reference| for every
parameter. Memory is the peak of a process that does nothing else, the tokens of the batch included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.network.attention import Attended
from avcil.train.network.fused_attention import FusedAttention, TeacherAttention
from avcil.train.network.inference import logits, teacher_attention
from avcil.train.network.layers import LinearLayer
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import product_dtype
from avcil.train.tokens.batches import ResidentTokens

TIME, SPACE, WIDTH, OLD, NEW = 8, 196, 768, 7, 7
VARIANTS = ("reference", "fp32", "auto")
Update = Callable[[], None]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--current", type=int, default=32)
    parser.add_argument("--exemplars", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true")
    asked = parser.parse_args()
    # Before this process holds tokens of its own: a child starts with its parent's peak.
    peaks = {name: peak_mb(name, asked) for name in VARIANTS}
    print(json.dumps(measure(asked) | {"peak_mb": peaks}))


@dataclass(frozen=True)
class Clips:
    """A batch as it is stored: current clips, then `exemplars` exemplars."""

    audio: Tensor
    visual: Tensor
    labels: Tensor
    exemplars: int


def draw_clips(asked: argparse.Namespace) -> Clips:
    """Tokens like those of a layer norm."""
    generator = torch.Generator().manual_seed(0)
    count = asked.current + asked.exemplars
    visual = torch.empty(count, TIME, SPACE, WIDTH, dtype=torch.float16)
    for clip in visual:
        clip.copy_(torch.randn(clip.shape, generator=generator))
    labels = torch.randint(OLD, OLD + NEW, (count,), generator=generator)
    labels[asked.current :] -= NEW
    return Clips(torch.randn(count, WIDTH, generator=generator), visual, labels, asked.exemplars)


def draw_networks() -> tuple[AudioVisualNetwork, AudioVisualNetwork]:
    """A student and the teacher it has begun to leave."""
    torch.manual_seed(0)
    teacher = AudioVisualNetwork(NetworkShape("audio-visual", WIDTH, WIDTH, OLD)).requires_grad_(False)
    student = AudioVisualNetwork(teacher.shape)
    student.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3 / WIDTH**0.5)
    student.grow(LinearLayer(WIDTH, NEW))
    return student, teacher


def objective(
    output: tuple[Tensor, Tensor, Tensor], old_logits: Tensor, clips: Clips, attention: Tensor
) -> Tensor:
    """AV-CIL's objective of logits and both features; `attention` is its distillation of the maps."""
    scores, audio, visual = output
    fa, fv, n_current = F.normalize(audio, dim=1), F.normalize(visual, dim=1), len(scores) - clips.exemplars
    return (
        losses.separated_cross_entropy(scores, clips.labels, n_current, OLD)
        + losses.task_distillation(scores, old_logits, [range(OLD)], 2.0)
        + 0.5 * losses.instance_contrast(fa, fv, 0.05)
        + losses.class_contrast(fa, fv, clips.labels, 0.05, per_positive=False)
        + attention
    )


def reference_loss(student: AudioVisualNetwork, teacher: AudioVisualNetwork, clips: Clips) -> Tensor:
    """The published way: the readable attention, and the teacher on every batch."""
    visual = clips.visual[torch.arange(len(clips.visual))].float()
    with torch.no_grad():
        old, old_maps = readable(teacher, clips.audio, visual)
    new, maps = readable(student, clips.audio, visual)
    first = len(clips.audio) - clips.exemplars
    attention = 0.5 * (
        losses.spatial_attention_distillation(maps.spatial[first:], old_maps.spatial[first:])
        + losses.temporal_attention_distillation(maps.temporal[first:], old_maps.temporal[first:])
    )
    return objective(new, old[0], clips, attention)


def readable(
    network: AudioVisualNetwork, audio: Tensor, visual: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Attended]:
    """Logits and both features, and the maps they come from."""
    maps = network.maps(audio, visual)
    fa = network.audio_projection(audio).relu()
    fv = network.visual_projection(maps.pooled).relu()
    return (network.classifier(fa + fv), fa, fv), maps


def fast_loss(
    student: AudioVisualNetwork, clips: Clips, old_logits: Tensor, teacher: TeacherAttention
) -> Tensor:
    """The way of every run, with the teacher's outputs known."""
    stored = ResidentTokens(clips.audio, clips.visual)
    (batch,) = stored.batches([torch.arange(len(stored))], torch.float32)
    output = student(batch.audio, batch.visual, teacher[torch.arange(clips.exemplars)])
    assert output.audio is not None and output.visual is not None
    attended = output.attended
    assert attended is not None
    assert attended.spatial_divergence is not None and attended.temporal_divergence is not None
    attention = 0.5 * (attended.spatial_divergence.mean() + attended.temporal_divergence.mean())
    return objective((output.logits, output.audio, output.visual), old_logits, clips, attention)


def loss_of(
    name: str, student: AudioVisualNetwork, teacher: AudioVisualNetwork, clips: Clips, eager: bool
) -> Callable[[], Tensor]:
    """The objective of the batch in one of the three ways."""
    if name == "reference":
        return partial(reference_loss, student, teacher, clips)
    student.fused = teacher.fused = FusedAttention(dtype_of(name), compiled=not eager)
    first = len(clips.audio) - clips.exemplars
    exemplars = ResidentTokens(clips.audio[first:], clips.visual[first:])
    old_logits = logits(teacher, ResidentTokens(clips.audio, clips.visual))
    return partial(fast_loss, student, clips, old_logits, teacher_attention(teacher, exemplars))


def update_of(student: AudioVisualNetwork, loss: Callable[[], Tensor]) -> Update:
    """One update with Adam."""
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3, weight_decay=1e-4)

    def update() -> None:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return update


def dtype_of(name: str) -> torch.dtype:
    """The precision of products."""
    return product_dtype("auto" if name == "auto" else "fp32", torch.device("cpu"))


def measure(asked: argparse.Namespace) -> dict[str, object]:
    """All figures but memory."""
    torch.set_num_threads(asked.threads)
    clips = draw_clips(asked)
    updates: dict[str, Update] = {}
    gradients: dict[str, dict[str, Tensor]] = {}
    for name in VARIANTS:
        student, teacher = draw_networks()
        loss = loss_of(name, student, teacher, clips, asked.eager)
        loss().backward()  # type: ignore[no-untyped-call]
        gradients[name] = {key: x.grad for key, x in student.named_parameters() if x.grad is not None}
        updates[name] = update_of(student, loss)
    for key, expected in gradients["reference"].items():
        found = [float((gradients[name][key] - expected).norm() / expected.norm()) for name in VARIANTS[1:]]
        print(f"gradient of {key}: fp32 {found[0]:.1e}, auto {found[1]:.1e} from the reference")

    works = updates | {f"products {name}": products(dtype_of(name), clips.visual) for name in VARIANTS[1:]}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(asked.repeats):
        for name, work in works.items():
            began_s = time.process_time()
            work()
            seconds[name].append(time.process_time() - began_s)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name}: {median[name]:.2f} s ({min(values):.2f} to {max(values):.2f})")

    def worst(name: str) -> float:
        pairs = ((gradients[name][key], other) for key, other in gradients["reference"].items())
        return max(float((one - other).norm() / other.norm()) for one, other in pairs)

    return {
        "clips": [asked.current, asked.exemplars],
        "threads": asked.threads,
        "compiled": not asked.eager,
        "auto": str(dtype_of("auto")).removeprefix("torch."),
        "seconds": {name: round(value, 3) for name, value in median.items()},
        "fp32_vs_reference": round(median["reference"] / median["fp32"], 2),
        "auto_vs_reference": round(median["reference"] / median["auto"], 2),
        "gemm_fraction": round(median["products auto"] / median["auto"], 3),
        "gemm_fraction_fp32": round(median["products fp32"] / median["fp32"], 3),
        "grad_rel_error": float(f"{worst('fp32'):.2e}"),
        "grad_rel_error_auto": float(f"{worst('auto'):.2e}"),
    }


def products(dtype: torch.dtype, visual: Tensor) -> Update:
    """The two large products of an update and nothing else, clip by clip."""
    frames = visual[0].flatten(0, 1).to(dtype)
    weight, bias = torch.randn(WIDTH, WIDTH).to(dtype), torch.randn(WIDTH).to(dtype)

    def work() -> None:
        for _ in range(len(visual)):
            hidden = F.linear(frames, weight, bias)
            hidden.T @ frames

    return work


def peak_mb(name: str, asked: argparse.Namespace) -> int:
    """Peak memory of a fresh process after two updates."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mb, (name, asked))


def _peak_mb(name: str, asked: argparse.Namespace) -> int:
    torch.set_num_threads(asked.threads)
    clips, (student, teacher) = draw_clips(asked), draw_networks()
    # Without compiled kernels: the compiler's own memory is not the update's.
    update = update_of(student, loss_of(name, student, teacher, clips, eager=True))
    for _ in range(2):
        update()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
