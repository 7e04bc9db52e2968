"""Fill a token cache from arrays of your own, in thirty lines; `avcil train` then learns from it.

    python examples/fill_a_cache.py my-cache
    avcil train my-cache --out run --steps 2

Here the arrays are made up: 8 classes of 12 clips, T = 4, S = 9, D = 16. Call it again after an interruption
and it goes on.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from avcil.cache import CacheClip, CacheInfo, CacheWriter, EncoderInfo, TokenSpec, WeightsOrigin

T, S, D = 4, 9, 16


def fingerprint(text: str) -> str:
    """What tells two encoders apart; take the hash of your weights."""
    return hashlib.sha256(text.encode()).hexdigest()


def main(path: Path) -> None:
    """Write what is missing in the cache at `path`."""
    clips = [
        CacheClip(f"{label}-{i}", f"class {label}", "train" if i < 8 else "val" if i < 10 else "test")
        for label in range(8)
        for i in range(12)
    ]
    origin = WeightsOrigin("own", "where the weights came from, in your words")
    info = CacheInfo(
        visual=TokenSpec((T, S, D), "float16"),  # or float32, or int8
        audio=TokenSpec((D,), "float32"),
        recipe={"name": "made up", "distance": 2.0},  # anything that decides what the tokens are
        visual_encoder=EncoderInfo("my-eye", fingerprint("eye 1"), origin),
        audio_encoder=EncoderInfo("my-ear", fingerprint("ear 1"), origin),
    )
    with CacheWriter.open(path, info, clips) as writer:
        for clip_id in writer.missing:  # write several at once where you can: it is faster
            label, number = map(int, clip_id.split("-"))  # your encoders go here
            centre = 2 * np.random.default_rng(label).standard_normal(D)
            noise = np.random.default_rng([label, number])
            visual = centre + noise.standard_normal((1, T, S, D))
            audio = centre + noise.standard_normal((1, D))
            writer.write([clip_id], visual, audio)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
