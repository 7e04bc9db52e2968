"""Every method in every modality it has, on a tiny cache of made-up tokens.

    python -m benchmarks.methods                          one seed, below methods/
    python -m benchmarks.methods --out DIR --seeds 42,43,44 --epochs 40
    python -m benchmarks.methods --cache avcil-demo/cache --protocol demo --ablations --seeds 42,43,44

Drives `avcil train` and ends with the table of `avcil compare`; run again, it goes on. It shows whether every
method trains. Of the made-up tokens sound alone and picture alone beat chance and both together beat either,
but the numbers say little about real ones. `--cache` takes tokens that are there instead, such as the demo's;
`--ablations` adds AV-CIL with one part taken away at a time.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from avcil import cli, rest_idle_threads
from avcil.cache import SyntheticSpec, write_synthetic_cache

SPEC = SyntheticSpec(classes=8, train=16, val=4, test=12, time=4, space=9, width=64, separation=4.0)
STEPS, MEMORY = 4, 32
WITHOUT = {  # what is taken away from AV-CIL, one at a time
    "instance": {"method": {"instance_term": False}},
    "class": {"method": {"class_term": False}},
    "spatial": {"method": {"spatial_term": False}},
    "temporal": {"method": {"temporal_term": False}},
    "vad": {"method": {"spatial_term": False, "temporal_term": False}},
    "distillation": {"method": {"distillation_term": False}},
    "separation": {"method": {"separated_cross_entropy": False}},
    "attention": {"network": {"attention": False}},
}
BATCHES = "[training]\nbatch = 16\nexemplar_batch = 32\n"  # a step has 32 clips
RANDOM_FEATURES = 500  # of the heads that use some; their own defaults are for real data
WITH_RANDOM_FEATURES = ("klda", "ranpac", "acil", "air", "dsal", "mmal")


def main() -> None:
    """Train all of them and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--epochs", type=int, default=30, help="of the made-up tokens")
    parser.add_argument("--cache", type=Path, help="tokens instead of made-up ones; needs --protocol")
    parser.add_argument("--protocol", help="preset or file")
    parser.add_argument("--ablations", action="store_true")
    asked = parser.parse_args()
    if (asked.cache is None) != (asked.protocol is None):
        parser.error("--cache and --protocol go together")
    rest_idle_threads()
    from avcil.train.methods import METHODS, find_method

    began = time.monotonic()
    cache, protocol = (asked.cache, asked.protocol) if asked.cache else made_up(asked.out, asked.epochs)
    for method in map(find_method, METHODS):
        for modality in method.modalities:
            out = asked.out / "runs" / f"{method.name}-{modality}"
            choice = ["--method", method.name, "--modality", modality]
            avcil("train", cache, "--out", out, *choice, "--protocol", protocol, "--seeds", asked.seeds)
    for name, changes in WITHOUT.items() if asked.ablations else ():
        out = asked.out / "runs" / f"avcil-without-{name}"
        changed = without(asked.out / f"without-{name}.toml", protocol, changes)
        avcil(
            "train", cache, "--out", out, "--method", "avcil", "--protocol", changed, "--seeds", asked.seeds
        )
    avcil("compare", asked.out / "runs", "--baseline", "finetune")
    print(f"{time.monotonic() - began:.0f} s")


def made_up(out: Path, epochs: int) -> tuple[Path, Path]:
    """A cache of made-up tokens and its protocol."""
    write_synthetic_cache(out / "cache", SPEC)
    protocol = out / "tiny.toml"
    narrow = "".join(f"[methods.{name}]\ndimensions = {RANDOM_FEATURES}\n" for name in WITH_RANDOM_FEATURES)
    protocol.write_text(
        f'name = "tiny"\n[protocol]\nsteps = {STEPS}\nmemory = {MEMORY}\n{BATCHES}epochs = {epochs}\n{narrow}'
    )
    return out / "cache", protocol


def without(path: Path, protocol: str | Path, changes: dict[str, Any]) -> Path:
    """A protocol for AV-CIL with some switches changed, written to `path`."""
    from avcil.train.config import to_toml
    from avcil.train.protocol_file import load_protocol

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(load_protocol(str(protocol)).configuration(**changes)))
    return path


def avcil(*arguments: object) -> None:
    """Print a command and run it in this process, which has torch loaded already."""
    words = list(map(str, arguments))
    print(f"\n$ avcil {shlex.join(words)}", flush=True)
    cli.app(words, standalone_mode=False)


if __name__ == "__main__":
    main()
