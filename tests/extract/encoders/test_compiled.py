"""Running at one batch size, and without a compiler."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avcil.extract.encoders.compiled import FixedBatch
from avcil.extract.encoders.registry import build_encoder
from avcil.extract.engine import ExtractOptions, build_token_encoder
from avcil.extract.prepare import PreparedClip
from avcil.extract.recipe import recommended
from avcil.extract.tokens import TokenEncoder


class Noting(nn.Module):
    """Doubles, and notes the batch sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return 2 * x


def test_the_last_batch_is_padded_and_cut() -> None:
    module = Noting()
    run = FixedBatch(module, compiler=lambda module: module)
    for n in (4, 4, 1, 3):
        x = torch.randn(n, 5)
        assert torch.equal(run(x), 2 * x)
    assert module.sizes == [4, 4, 4, 4]


def test_without_a_compiler_it_goes_on_and_says_so() -> None:
    module = Noting()
    calls = 0

    def broken(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        raise RuntimeError("no C++ compiler\nlong story")

    run = FixedBatch(module, compiler=lambda module: broken)
    x = torch.randn(4, 5)
    with pytest.warns(RuntimeWarning, match=r"going on without \(RuntimeError: no C\+\+ compiler\)"):
        assert torch.equal(run(x), 2 * x)
    assert torch.equal(run(x[:1]), 2 * x[:1])
    assert calls == 1 and module.sizes == [4, 1]


def test_too_little_memory_is_no_reason_to_go_on_without() -> None:
    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        FixedBatch(Noting(), compiler=lambda module: full)(torch.randn(1, 1))


def test_an_error_of_the_module_is_the_modules() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError("mine")

    with warnings.catch_warnings(), pytest.raises(ZeroDivisionError, match="mine"):
        warnings.simplefilter("ignore")
        FixedBatch(Wrong(), compiler=lambda module: module)(torch.randn(1, 1))


def test_the_option_reaches_both_encoders() -> None:
    encoder = build_token_encoder(ExtractOptions("demo", "demo", device="cpu", compile=True))
    assert isinstance(encoder.see, FixedBatch) and isinstance(encoder.hear, FixedBatch)


def traced(module: nn.Module) -> nn.Module:
    """Traced in one graph, without generating code, which takes a C++ compiler 20 s."""
    return torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=False)


def test_the_encoders_can_be_traced_whole() -> None:
    visual, audio = build_encoder("visual", "demo"), build_encoder("audio", "demo")
    frames, mel = torch.randn(2, 16, 64, 64, 3), torch.randn(2, 384, 128)
    for module, x in ((visual.module, frames), (audio.module, mel)):
        run = FixedBatch(module, compiler=traced)
        for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                assert torch.allclose(run(x), module(x), atol=atol)
                assert torch.allclose(run(x[:1]), module(x[:1]), atol=atol)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_compiled_fp16_on_a_gpu_gives_the_same_tokens() -> None:
    rng = np.random.default_rng(0)
    clips = [
        PreparedClip(
            rng.integers(0, 255, (16, 64, 64, 3), np.uint8), rng.normal(size=(384, 128)).astype("f4")
        )
        for _ in range(3)
    ]
    cpu, gpu = (
        TokenEncoder.make(
            build_encoder("visual", "demo"),
            build_encoder("audio", "demo"),
            recommended(),
            device,
            "auto",
            compiled=device == "cuda",
        )
        for device in ("cpu", "cuda")
    )
    for batch in (clips, clips[:1]):
        expected, found = cpu.encode(batch), gpu.encode(batch)
        for ours, theirs in ((found.visual, expected.visual), (found.audio, expected.audio)):
            pair = [torch.from_numpy(x).double().flatten(0, -2) for x in (ours, theirs)]
            assert F.cosine_similarity(*pair).min() >= 0.9999
