"""Every method in every modality it has, on a tiny cache of made-up tokens.

    python -m benchmarks.methods                          one seed, below methods/
    python -m benchmarks.methods --out DIR --seeds 42,43,44 --epochs 40

Drives `avcil train` and ends with the table of `avcil compare`; run again, it goes on. It shows whether every
method trains. Of the made-up tokens sound alone and picture alone beat chance and both together beat either,
but the numbers say little about real ones.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from avcil import cli, rest_idle_threads
from avcil.cache import SyntheticSpec, write_synthetic_cache

SPEC = SyntheticSpec(classes=8, train=16, val=4, test=12, time=4, space=9, width=64, separation=4.0)
STEPS, MEMORY = 4, 32
BATCHES = "[training]\nbatch = 16\nexemplar_batch = 32\n"  # a step has 32 clips


def main() -> None:
    """Train all of them and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    rest_idle_threads()
    from avcil.train.methods import METHODS

    began = time.monotonic()
    write_synthetic_cache(asked.out / "cache", SPEC)
    protocol = asked.out / "tiny.toml"
    protocol.write_text(
        f'name = "tiny"\n[protocol]\nsteps = {STEPS}\nmemory = {MEMORY}\n{BATCHES}epochs = {asked.epochs}\n'
    )
    shared = ["--protocol", protocol, "--seeds", asked.seeds]
    for method in METHODS.values():
        for modality in method.modalities:
            out = asked.out / "runs" / f"{method.name}-{modality}"
            choice = ["--method", method.name, "--modality", modality]
            avcil("train", asked.out / "cache", "--out", out, *choice, *shared)
    avcil("compare", asked.out / "runs", "--baseline", "finetune")
    print(f"{time.monotonic() - began:.0f} s")


def avcil(*arguments: object) -> None:
    """Print a command and run it in this process, which has torch loaded already."""
    words = list(map(str, arguments))
    print(f"\n$ avcil {shlex.join(words)}", flush=True)
    cli.app(words, standalone_mode=False)


if __name__ == "__main__":
    main()
