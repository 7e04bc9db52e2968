"""The fast attention against the readable one."""

import warnings

import pytest
import torch
from torch import Tensor

from avcil.train.methods import losses
from avcil.train.network import fused_attention
from avcil.train.network import kernels as attention_kernels
from avcil.train.network.attention import Attended, audio_guided_attention
from avcil.train.network.fused_attention import FusedAttended, FusedAttention, TeacherAttention
from avcil.train.network.kernels import Kernels, compiling_pays
from avcil.train.plan import product_dtype
from avcil.train.tokens.batches import VisualTokens

Clips = tuple[Tensor, Tensor, Tensor, Tensor]  # tokens, weight, bias, gate


def draw(
    count: int = 3, time: int = 2, space: int = 5, width: int = 4, dtype: torch.dtype = torch.float64
) -> Clips:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = normal(width, width) / width**0.5
    tokens, bias, gate = normal(count, time, space, width), normal(width) / 10, normal(count, width).tanh()
    return tokens.to(dtype), weight.to(dtype), bias.to(dtype), gate.to(dtype)


def readable(tokens: Tensor, weight: Tensor, bias: Tensor, gate: Tensor) -> Attended:
    return audio_guided_attention((tokens @ weight.T + bias).tanh(), gate, tokens)


def other_weights(clips: Clips, n_old: int) -> Clips:
    tokens, weight, bias, gate = (x[-n_old:] if i in (0, 3) else x for i, x in enumerate(clips))
    return tokens, 0.7 * weight.flip(0), bias.flip(0), 0.9 * gate


def attend(attention: FusedAttention, clips: Clips, teacher: TeacherAttention | None = None) -> FusedAttended:
    return attention(VisualTokens.of(clips[0]), *clips[1:], teacher)


def freeze(attention: FusedAttention, clips: Clips) -> TeacherAttention:
    return attention.as_teacher(VisualTokens.of(clips[0]), *clips[1:], clips=len(clips[0]))


def value(attention: FusedAttention, clips: Clips, teacher: TeacherAttention | None = None) -> Tensor:
    """A number that depends on everything the operation returns, every clip with a weight of its own."""
    attended = attend(attention, clips, teacher)
    total = (attended.pooled * torch.linspace(-1, 1, attended.pooled.shape[1]).to(clips[3])).sum()
    if attended.spatial_divergence is not None and attended.temporal_divergence is not None:
        share = torch.arange(1, len(attended.spatial_divergence) + 1).to(clips[3])
        total = total + (share * (attended.spatial_divergence + 0.3 * attended.temporal_divergence)).sum()
    return total


def readable_value(clips: Clips, old: Clips) -> Tensor:
    attended, teacher = readable(*clips), readable(*old)
    total = (attended.pooled * torch.linspace(-1, 1, attended.pooled.shape[1]).to(clips[3])).sum()
    first = len(clips[0]) - len(old[0])
    for k in range(len(old[0])):
        student, frozen = slice(first + k, first + k + 1), slice(k, k + 1)
        total = total + (k + 1) * (
            losses.spatial_attention_distillation(attended.spatial[student], teacher.spatial[frozen])
            + 0.3
            * losses.temporal_attention_distillation(attended.temporal[student], teacher.temporal[frozen])
        )
    return total


def gradients(total: Tensor, clips: Clips) -> list[Tensor]:
    return list(torch.autograd.grad(total, clips[1:]))


def trained(clips: Clips) -> Clips:
    tokens, *parameters = clips
    weight, bias, gate = (x.clone().requires_grad_() for x in parameters)
    return tokens, weight, bias, gate


def error(one: Tensor, other: Tensor) -> float:
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("n_old", [0, 2])
def test_gradcheck(n_old: int) -> None:
    clips, attention = trained(draw()), FusedAttention(torch.float64)
    teacher = freeze(attention, other_weights(draw(), n_old)) if n_old else None

    def outputs(weight: Tensor, bias: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
        attended = attend(attention, (clips[0], weight, bias, gate), teacher)
        if attended.spatial_divergence is None or attended.temporal_divergence is None:
            return (attended.pooled,)
        return attended.pooled, attended.spatial_divergence, attended.temporal_divergence

    assert torch.autograd.gradcheck(outputs, clips[1:])


@pytest.mark.parametrize(("space", "width"), [(5, 4), (196, 768)], ids=["tiny", "full"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_the_readable_attention(dtype: torch.dtype, space: int, width: int) -> None:
    drawn = draw(3, 8, space, width, dtype)
    clips, old, attention = trained(drawn), other_weights(drawn, 2), FusedAttention(dtype)
    forward, backward = (1e-12, 1e-10) if dtype == torch.float64 else (1e-5, 1e-4)
    assert error(attend(attention, clips).pooled, readable(*clips).pooled) < forward
    total, expected = value(attention, clips, freeze(attention, old)), readable_value(clips, old)
    assert error(total, expected) < forward
    for mine, other in zip(gradients(total, clips), gradients(expected, clips), strict=True):
        assert error(mine, other) < backward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equal_maps_distil_exactly_nothing(dtype: torch.dtype) -> None:
    clips, attention = trained(draw(dtype=torch.float32)), FusedAttention(dtype)
    attended = attend(attention, clips, freeze(attention, clips))
    assert attended.spatial_divergence is not None and attended.temporal_divergence is not None
    total = attended.spatial_divergence.sum() + attended.temporal_divergence.sum()
    assert abs(total.item()) < 1e-6
    assert all(not gradient.any() for gradient in gradients(total, clips))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("size", [1.0, 1e-9])
def test_short_precisions_are_near_whatever_the_size_of_the_gradient(
    dtype: torch.dtype, tolerance: float, size: float
) -> None:
    drawn = draw(4, 8, 49, 64, torch.float32)
    clips, old, attention = trained(drawn), other_weights(drawn, 2), FusedAttention(dtype)
    mine = gradients(size * value(attention, clips, freeze(attention, old)), clips)
    for one, other in zip(mine, gradients(size * readable_value(clips, old), clips), strict=True):
        assert error(one, other) < tolerance


def test_stored_half_precision_tokens_are_widened_on_the_way() -> None:
    tokens, *parameters = draw(dtype=torch.float32)
    attention, half = FusedAttention(torch.float32), tokens.half()
    narrow, wide = (attend(attention, (stored, *parameters)) for stored in (half, half.float()))
    assert torch.equal(narrow.pooled, wide.pooled)


@pytest.mark.parametrize("space", [30, 300])
def test_blocks_do_not_matter(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, attention = trained(draw(5, 6, space, 4)), FusedAttention(torch.float64)
    teacher = freeze(attention, other_weights(clips, 2))
    whole = gradients(value(attention, clips, teacher), clips)
    monkeypatch.setitem(fused_attention.NUMBERS_PER_BLOCK, "cpu", 2500)
    for one, other in zip(gradients(value(attention, clips, teacher), clips), whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("room", [0, 3 * 6 * 30 * 4 * 8])
def test_what_is_not_kept_is_computed_again(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, attention = trained(draw(5, 6, 30, 4)), FusedAttention()
    monkeypatch.setitem(fused_attention.NUMBERS_PER_BLOCK, "cpu", 6 * 30 * 4)  # a chunk is one clip
    kept = freeze(attention, other_weights(clips, 2))
    whole = gradients(value(attention, clips, kept), clips)
    attention = attention.within(room)
    frozen = freeze(attention, other_weights(clips, 2))
    assert kept.projected is not None and (frozen.projected is None) == (room == 0)
    for one, other in zip(gradients(value(attention, clips, frozen), clips), whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_compiled_kernels_agree_and_compile_once_whatever_the_batch() -> None:
    compiled, plain = FusedAttention(torch.float32, compiled=True), FusedAttention(torch.float32)
    for count in (4, 3):
        clips = trained(draw(count, 4, 128, 768, torch.float32))
        teacher = freeze(plain, other_weights(clips, 2))
        with torch.compiler.set_stance("default" if count == 4 else "fail_on_recompile"):
            mine = gradients(value(compiled, clips, teacher), clips)
        for one, other in zip(mine, gradients(value(plain, clips, teacher), clips), strict=True):
            assert error(one, other) < 1e-5


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Tensor) -> None:
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(attention_kernels.torch, "compile", lambda function: broken)
    kernels = Kernels(compiled=True)
    block = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.rand(2, 4)
    with pytest.warns(RuntimeWarning, match=r"going on without \(RuntimeError: no C\+\+ compiler\)"):
        first = kernels.attend(*block)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(first.total, kernels.attend(*block).total)


def test_small_caches_are_not_compiled_for() -> None:
    assert not compiling_pays(clips=160, numbers_per_clip=8 * 4 * 64, epochs=200)
    assert compiling_pays(clips=824, numbers_per_clip=8 * 196 * 768, epochs=200)


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert product_dtype("fp64", cpu) == torch.float64
    assert product_dtype("fp32", torch.device("cuda")) == torch.float32
    assert product_dtype("auto", torch.device("cuda")) == torch.float16
    assert product_dtype("auto", cpu) in (torch.bfloat16, torch.float32)
