"""A trained run whose class labels and clip ids hold what breaks careless pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avcil.cache import CacheWriter, TokenCache
from avcil.cache.schema import CacheClip, CacheInfo, EncoderInfo
from avcil.cache.token_spec import TokenSpec
from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.plan import plan_run
from avcil.train.record.run_folder import Run
from avcil.train.run import train_run

ODD_LABELS = (
    "<script>document.title='taken over'</script>",
    "quo\"te's & <b>bold</b> {{ 7 * 7 }}",
    "two\nlines",
    "\u202eright to left \u05d0\u05d1",
    "\x1b[31m\U0001f941 drum \U0001f469‍\U0001f3a4",
    '"><img src="http://example.invalid/x.png">',
)


def odd_run(folder: Path, steps: int = 3, method: str = "avcil", select: str = "best_val") -> Run:
    """Six odd classes in `steps` steps, trained for two epochs on random tokens."""
    clips = [
        CacheClip(f"{label} #{split}{number}", label, split)
        for label in ODD_LABELS
        for split, count in (("train", 4), ("val", 1), ("test", 3))
        for number in range(count)
    ]
    encoder = EncoderInfo("made up", "0" * 64)
    info = CacheInfo(TokenSpec((2, 4, 8), "float16"), TokenSpec((8,), "float32"), {}, encoder, encoder)
    if not (folder / "cache").exists():
        random = np.random.default_rng(0)
        with CacheWriter.open(folder / "cache", info, clips) as writer:
            visual = random.standard_normal((len(clips), 2, 4, 8)).astype(np.float32)
            audio = random.standard_normal((len(clips), 8)).astype(np.float32)
            writer.write([clip.id for clip in clips], visual, audio)
    config = RunConfig(
        method=MethodConfig(method),
        protocol=ProtocolConfig(steps=steps, memory=12),
        training=TrainingConfig(epochs=2, batch=4, exemplar_batch=4, device="cpu", select=select),
    )
    name = f"run-{method}-{steps}-{select}"
    return train_run(plan_run(TokenCache(folder / "cache"), config), folder / name)
