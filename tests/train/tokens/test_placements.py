"""Where tokens stay changes no number of a run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.errors import ConfigError
from avcil.train.config import ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.network.fused_attention import NUMBERS_PER_BLOCK, FusedAttention
from avcil.train.network.inference import CLIPS_PER_PASS
from avcil.train.plan import plan_run
from avcil.train.record.run_folder import Run
from avcil.train.run import train_run
from avcil.train.tokens.budget import WORKING_BYTES, Demand, TokenPlacement, divide, place_sets

CONFIG = RunConfig(
    protocol=ProtocolConfig(steps=2, memory=8),
    training=TrainingConfig(epochs=3, batch=8, exemplar_batch=6, device="cpu"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SyntheticSpec(classes=4, train=10, val=3, test=3, width=64))
    return TokenCache(path)


def train(cache: TokenCache, out: Path, config: RunConfig) -> tuple[Run, list[str]]:
    lines: list[str] = []

    def note(step: int, tokens: TokenPlacement) -> None:
        lines.append(str(tokens))

    return train_run(plan_run(cache, config), out, on_tokens=note), lines


def with_budget(budget_gb: float | None, device: str = "cpu") -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, token_budget_gb=budget_gb, device=device))


def outcome(run: Run) -> list[object]:
    records = [replace(run.record(step), seconds=0.0, stages={}, peak_memory={}) for step in range(2)]
    return [*records, *(path.read_bytes() for path in sorted(run.path.glob("step-*/model.safetensors")))]


def test_every_placement_trains_the_same_run(
    cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, lines = train(cache, tmp_path / "resident", with_budget(None))
    assert len(lines) == 2 and all("streamed" not in line and " in RAM" in line for line in lines)
    assert lines[1].startswith("tokens: 20 current clips + 8 exemplars + 12 validation clips, ")

    streamed, lines = train(cache, tmp_path / "streamed", with_budget(0.0))
    assert all(" in RAM" not in line for line in lines)
    assert outcome(streamed) == outcome(resident)

    monkeypatch.setattr("avcil.train.step.CLIPS_PER_PASS", 4)  # two passes are less than the set
    clip_gb = 4 * 9 * 64 * 2e-9 + 64 * 4e-9
    mixed, lines = train(cache, tmp_path / "mixed", with_budget(36.5 * clip_gb))
    assert "20 current clips + 8 exemplars, " in lines[1] and "; 12 validation clips, " in lines[1]
    assert outcome(mixed) == outcome(resident)


def test_without_room_for_projections_it_is_the_same_run(
    cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, _ = train(cache, tmp_path / "kept", with_budget(None))
    budgets = []

    def within(attention: FusedAttention, projection_bytes: int) -> FusedAttention:
        budgets.append(projection_bytes)
        return FusedAttention(attention.dtype, projection_bytes=projection_bytes)

    monkeypatch.setattr(FusedAttention, "within", within)
    monkeypatch.setitem(WORKING_BYTES, "cpu", 1 << 60)
    again, lines = train(cache, tmp_path / "again", with_budget(None))
    assert set(budgets) == {0} and all("streamed" in line for line in lines)
    assert outcome(again) == outcome(kept)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_the_same_run_from_ram(cache: TokenCache, tmp_path: Path) -> None:
    resident, lines = train(cache, tmp_path / "resident", with_budget(None, "cuda"))
    assert all("on the GPU" in line for line in lines)
    pinned, lines = train(cache, tmp_path / "pinned", with_budget(0.0, "cuda"))
    assert all("in pinned RAM" in line for line in lines)
    assert outcome(pinned) == outcome(resident)


def test_a_run_goes_on_with_another_budget(cache: TokenCache, tmp_path: Path) -> None:
    train(cache, tmp_path / "run", with_budget(None))
    run, lines = train(cache, tmp_path / "run", with_budget(0.0))
    assert run.steps_done == 2 and not lines


@pytest.mark.parametrize("budget_gb", [-1.0, 1e300, float("nan")])
def test_a_budget_is_a_number_of_bytes(budget_gb: float) -> None:
    with pytest.raises(
        ConfigError, match=rf"training\.token_budget_gb = {re.escape(str(budget_gb))}; it must be from 0"
    ):
        TrainingConfig(token_budget_gb=budget_gb)


@pytest.mark.parametrize("token_bytes", [1, 2], ids=["int8", "float16"])
@pytest.mark.parametrize("on_gpu", [True, False], ids=["GPU", "RAM"])
def test_a_vs100_step_fits_24_gb_with_the_attention(on_gpu: bool, token_bytes: int) -> None:
    """Counted, not run: tokens where the budget puts them, and what the attention keeps beside them."""
    clip = 8 * 196 * (768 * token_bytes + 2 * (token_bytes == 1)) + 4 * 768
    demands = [
        Demand("current clips", 5000, clip, 256),
        Demand("exemplars", 1500, clip, 128),
        Demand("validation clips", 5000, clip, CLIPS_PER_PASS),
    ]
    free = 23_500_000_000
    budget = divide(free, 0) if on_gpu else divide(None, free)
    placed = place_sets(demands, budget, on_gpu=on_gpu)
    resident = [one.location != "streamed" for one in placed]
    assert resident == [True, token_bytes == 1, token_bytes == 1]
    held = sum(
        one.demand.bytes if here else one.demand.buffer_bytes
        for one, here in zip(placed, resident, strict=True)
    )
    device = "cuda" if on_gpu else "cpu"
    block_bytes = 8 * 4 * NUMBERS_PER_BLOCK[device]  # float32 at once where nothing is compiled
    assert block_bytes + (10**9 if on_gpu else 3 * 10**8) <= WORKING_BYTES[device]
    assert held + budget.projection_bytes + block_bytes + 10**9 < free
