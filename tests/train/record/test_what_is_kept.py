"""What a run keeps of old clips: how many bytes it says, and nothing where it has no exemplars."""

from dataclasses import replace
from pathlib import Path

import pytest

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.cache.operations.pool import pool
from avcil.report.pages.run import write_run_page
from avcil.train.config import MethodConfig, Modality, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.record.run_folder import Run
from avcil.train.run import train_run

SPEC = SyntheticSpec(classes=4, train=6, val=2, test=3, time=2, space=4, width=8)
CONFIG = RunConfig(
    protocol=ProtocolConfig(steps=2, memory=8),
    training=TrainingConfig(epochs=1, batch=8, exemplar_batch=4, device="cpu"),
)
VISUAL, AUDIO = 2 * 4 * 8 * 2, 8 * 4  # bytes of a clip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


def train(cache: TokenCache, out: Path, method: str, modality: Modality = "audio-visual") -> Run:
    config = replace(CONFIG, method=MethodConfig(method), modality=modality)
    return train_run(plan_run(cache, config), out)


@pytest.mark.parametrize(
    ("method", "modality", "clips", "clip_bytes"),
    [
        ("finetune", "audio-visual", (0, 0), 0),
        ("avcil", "audio-visual", (8, 8), VISUAL + AUDIO),  # 2 classes of 4 exemplars, 4 of 2
        ("icarl-fc", "audio", (8, 8), AUDIO),
        ("icarl-nme", "visual", (8, 8), VISUAL),
        ("upper-bound", "audio-visual", (12, 24), VISUAL + AUDIO),
        ("slda", "audio-visual", (0, 0), 0),
    ],
)
def test_bytes_are_recorded_with_every_step(
    method: str,
    modality: Modality,
    clips: tuple[int, int],
    clip_bytes: int,
    cache: TokenCache,
    tmp_path: Path,
) -> None:
    run = train(cache, tmp_path / "run", method, modality)
    records = [run.record(step) for step in range(2)]
    kept = [record.exemplar_bytes for record in records]
    if method.startswith("icarl"):  # the published herding may pick a clip twice, which is kept once
        assert 0 < kept[1] <= clips[1] * clip_bytes and kept[1] % clip_bytes == 0
    else:
        assert kept == [count * clip_bytes for count in clips]
    files = [run.step_path(step) / "head.safetensors" for step in range(2)]
    for record, file in zip(records, files, strict=True):
        size = file.stat().st_size if file.exists() else 0
        assert record.head_bytes <= size <= record.head_bytes + 5000 * bool(size)
        assert bool(record.head_bytes) == (method in ("icarl-nme", "slda"))
    result = run.results
    assert result.memory_bytes == kept[1] + records[1].head_bytes
    assert result.seconds_per_step == pytest.approx(sum(record.seconds for record in records) / 2)


def test_exemplars_of_a_pooled_cache_are_small(cache: TokenCache, tmp_path: Path) -> None:
    pool(cache, tmp_path / "pooled", statistics="mean")
    run = train(TokenCache(tmp_path / "pooled"), tmp_path / "run", "icarl-fc", "visual")
    assert run.record(1).exemplar_bytes % (8 * 4) == 0 < run.record(1).exemplar_bytes <= 8 * 8 * 4


@pytest.mark.parametrize("method", ["finetune", "lwf", "ncm", "slda", "klda", "best"])
def test_a_run_without_memory_keeps_nothing_of_a_clip(method: str, cache: TokenCache, tmp_path: Path) -> None:
    config = replace(
        CONFIG, method=MethodConfig(method), protocol=ProtocolConfig(steps=2, memory=0), name="no memory"
    )
    run = train_run(plan_run(cache, config), tmp_path / "run")
    write_run_page(run, run.results)
    for step in range(2):
        record = run.record(step)
        assert not record.exemplars and not record.kept and not record.exemplar_bytes
    files = [file.read_bytes() for file in run.path.rglob("*") if file.is_file()]
    assert len(files) >= 8
    ids = [clip.id for clip in cache.clips]
    tokens = cache.read(ids)
    for clip_id, visual, audio, wide in zip(ids, tokens.visual, tokens.audio, tokens.widened(), strict=True):
        lines = [clip_id.encode(), audio.tobytes(), audio.astype(float).tobytes()]
        lines += [token.tobytes() for token in (*visual[0], *wide[0], *wide[0].astype(float))]
        assert not any(line in file for line in lines for file in files), clip_id
