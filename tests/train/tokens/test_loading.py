"""Tokens come out the same wherever they stay."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenCache, TokenSpec
from avcil.errors import CacheError
from avcil.train.tokens import gpu
from avcil.train.tokens.batches import ResidentTokens, StepTokens, joint_batches
from avcil.train.tokens.budget import Budget, Location
from avcil.train.tokens.gpu import PinnedTokens
from avcil.train.tokens.loading import TokenNeeds, TokenSet, free_budget, load_tokens
from avcil.train.tokens.reading import read_ahead, read_whole

N, SHAPE = 40, (2, 3, 5)
CPU = torch.device("cpu")
BUDGETS: dict[Location, Budget] = {"ram": Budget(0, 1 << 40), "streamed": Budget(0, 0)}
ON_GPU: dict[Location, Budget] = {
    "device": Budget(1 << 30, 0),
    "pinned": Budget(0, 1 << 30),
    "streamed": Budget(0, 0),
}
ORDERS = [torch.tensor(rows) for rows in ([3, 1, 39], [0], [5, 5, 7, 38, 2], [11, 12])]


@pytest.fixture(params=["float16", "float32", "int8"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> TokenCache:
    encoder = EncoderInfo("eye and ear", "a" * 64)
    visual, audio = TokenSpec(SHAPE, request.param), TokenSpec(SHAPE[-1:], "float32")
    info = CacheInfo(visual, audio, {"name": "test"}, encoder, encoder)
    clips = [CacheClip(f"clip{i}", "a", "train") for i in range(N)]
    rng = np.random.default_rng(0)
    with CacheWriter.open(tmp_path / "cache", info, clips, shards=2) as writer:
        writer.write([clip.id for clip in clips], rng.standard_normal((N, *SHAPE)), rng.random((N, 5)))
    return TokenCache(tmp_path / "cache")


def load(cache: TokenCache, budget: Budget, device: torch.device = CPU) -> StepTokens:
    clips = TokenSet("clips", [f"clip{i}" for i in range(N)], 4)
    (tokens,), _ = load_tokens(cache, [clips], TokenNeeds(), device, budget)
    return tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("location", BUDGETS)
def test_batches_are_the_cache_s_tokens(location: Location, dtype: torch.dtype, cache: TokenCache) -> None:
    tokens = load(cache, BUDGETS[location])
    assert len(tokens) == N
    for rows, batch in zip(ORDERS, tokens.batches(ORDERS, dtype), strict=True):
        expected = cache.read([f"clip{row}" for row in rows])
        wide = torch.from_numpy(expected.widened()).to(dtype)
        assert batch.visual is not None and batch.visual.clip_shape == SHAPE
        assert torch.equal(batch.visual.widened(dtype), wide)
        assert torch.equal(batch.visual.widened(dtype, len(rows) - 1, len(rows)), wide[-1:])
        assert torch.equal(batch.audio, torch.from_numpy(expected.audio).to(dtype))


def gather(tokens: StepTokens, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = tokens.batches([rows], torch.float32)
    assert batch.audio is not None and batch.visual is not None
    return batch.audio, batch.visual.widened(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_int8_tokens_are_widened_by_their_scales(dtype: torch.dtype) -> None:
    numbers, scale = torch.randint(-127, 127, (9, 2, 3, 4), dtype=torch.int8), torch.rand(9, 2, 3).half()
    (batch,) = ResidentTokens(None, numbers, scale).batches([rows := torch.tensor([8, 0, 3, 3])], dtype)
    wide = (numbers.float() * scale.float()[..., None])[rows].to(dtype)
    assert batch.visual is not None and torch.equal(batch.visual.widened(dtype), wide)
    assert all(torch.equal(batch.visual.widened(dtype, k, k + 1), wide[k : k + 1]) for k in range(4))


def test_joint_batches_are_those_of_every_set(cache: TokenCache) -> None:
    sets = [load(cache, BUDGETS[location]) for location in ("ram", "streamed")]
    orders = [(rows, rows.flip(0)[:2]) for rows in ORDERS]
    for (one, other), batch in zip(orders, joint_batches(sets, iter(orders), torch.float32), strict=True):
        audio, visual = gather(sets[0], torch.cat([one, other]))
        assert torch.equal(batch.visual.widened(torch.float32), visual) and torch.equal(batch.audio, audio)
        across = slice(len(one) - 1, len(one) + 1)  # the last of one set and the first of the other
        assert torch.equal(batch.visual.widened(torch.float32, across.start, across.stop), visual[across])


def test_only_what_is_asked_for_is_loaded(cache: TokenCache) -> None:
    sets = [TokenSet("clips", ["clip3"], 1), TokenSet("exemplars", [], 1)]
    rows = torch.tensor([0])
    for budget in BUDGETS.values():
        (sound, none), plan = load_tokens(cache, sets, TokenNeeds(visual="none"), CPU, budget)
        assert (len(sound), len(none)) == (1, 0) and "float32 in RAM" in str(plan)
        assert next(sound.batches([rows], torch.float32)).visual is None
        (picture, _), _ = load_tokens(cache, sets, TokenNeeds(audio=False), CPU, budget)
        assert next(picture.batches([rows], torch.float32)).audio is None


def test_means_are_clips_of_one_token(cache: TokenCache) -> None:
    sets = [TokenSet("clips", ["clip7", "clip3"], 1), TokenSet("exemplars", [], 1)]
    needs = TokenNeeds(audio=False, visual="mean")
    (tokens, none), plan = load_tokens(cache, sets, needs, CPU, BUDGETS["ram"])
    assert (len(tokens), len(none)) == (2, 0) and "float64 means in RAM" in str(plan)
    (batch,) = tokens.batches([torch.tensor([1, 0])], torch.float32)
    wide = torch.from_numpy(cache.read(["clip3", "clip7"]).widened()).double()
    assert batch.visual is not None and batch.visual.clip_shape == (1, 1, SHAPE[-1])
    expected = wide.mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(batch.visual.widened(torch.float64), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("location", BUDGETS)
def test_a_damaged_token_is_noticed(location: Location, cache: TokenCache) -> None:
    shard = cache.shards[1].shard
    with shard.path.open("r+b") as file:
        file.seek(shard.offsets["visual"] + 4)
        file.write(b"\x55\xaa")
    with pytest.raises(CacheError, match=f"row 0: the tokens of clip '{shard.ids[0]}' do not match"):
        for _ in load(cache, BUDGETS[location]).batches(torch.arange(N).split(8), torch.float32):
            pass


def test_reading_ahead_is_one_ahead_and_ends_with_its_reader() -> None:
    begun, threads = [], set()

    def work(k: int, item: str) -> str:
        begun.append(k)
        threads.add(threading.current_thread())
        return item.upper()

    results = read_ahead(work, iter("abcdef"))
    assert [next(results), next(results)] == ["A", "B"]
    results.close()
    assert begun in ([0, 1], [0, 1, 2]) and not any(thread.is_alive() for thread in threads)
    assert list(read_ahead(work, "xyz")) == ["X", "Y", "Z"] and list(read_ahead(work, "")) == []


def test_what_reading_ahead_meets_is_raised_where_it_is_used() -> None:
    results = read_ahead(lambda k, item: 1 // item, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


class Clock:
    """Stands in for a stream and its events: everything is done when it is asked for."""

    def __init__(self, *_: object) -> None: ...
    def wait_event(self, event: Clock) -> None: ...
    def record(self, stream: Clock) -> None: ...
    def synchronize(self) -> None: ...
    def record_event(self) -> Clock:
        return Clock()


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(Stream=Clock, Event=Clock, current_stream=Clock, stream=lambda _: nullcontext())
    monkeypatch.setattr(gpu, "torch", SimpleNamespace(**vars(torch) | {"cuda": fake}))
    monkeypatch.setattr("avcil.train.tokens.gpu.pin", lambda tokens: None)


def test_fetching_ahead_overwrites_nothing_in_use(fake_gpu: None, cache: TokenCache) -> None:
    tokens = PinnedTokens(*read_whole(cache, [f"clip{i}" for i in range(N)], audio=True), CPU)
    orders = [*ORDERS, *(torch.tensor([row]) for row in range(5))]
    expected = load(cache, BUDGETS["ram"])
    for rows, batch in zip(orders, tokens.batches(orders, torch.float32), strict=True):
        assert torch.equal(batch.visual.widened(torch.float32), gather(expected, rows)[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("location", ON_GPU)
def test_a_gpu_sees_the_same_tokens(location: Location, cache: TokenCache) -> None:
    device = torch.device("cuda")
    tokens = load(cache, ON_GPU[location], device)
    expected = load(cache, BUDGETS["ram"])
    for _ in range(3):
        for rows, batch in zip(ORDERS, tokens.batches(ORDERS, torch.float32), strict=True):
            torch.testing.assert_close(
                batch.visual.widened(torch.float32).cpu(), gather(expected, rows)[1], rtol=0, atol=0
            )


def test_the_default_budget_is_part_of_what_is_free() -> None:
    free = free_budget(CPU)
    assert free.device_bytes == 0 and free.host_bytes > 1 << 20
    asked = free_budget(CPU, 5e-9)
    assert (asked.device_bytes, asked.host_bytes) == (0, 5)
