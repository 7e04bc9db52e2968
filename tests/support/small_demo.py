"""Extraction and training on a few rendered videos: a finished run for the tests of commands."""

from dataclasses import dataclass
from pathlib import Path

from support.command_line import DEMO_ENCODERS, avcil

from avcil.demo.videos import DemoSpec, render_demo

SPEC = DemoSpec(train=3, val=1, test=2, min_s=0.5, max_s=0.7, fps=10)


@dataclass(frozen=True)
class SmallDemo:
    videos: Path
    cache: Path
    run: Path

    @property
    def held_back(self) -> list[Path]:
        """24 test videos, two of each class."""
        return sorted((self.videos / "test").rglob("*.mp4"))


def make_small_demo(folder: Path) -> SmallDemo:
    made = SmallDemo(folder / "videos", folder / "cache", folder / "run")
    extracted = avcil(
        "extract", render_demo(folder, SPEC), "--out", made.cache, "--workers", 0, *DEMO_ENCODERS
    )
    assert extracted.code == 0, extracted.err
    trained = avcil("train", made.cache, "--out", made.run, "--steps", 3, "--memory", 24, "--epochs", 3)
    assert trained.code == 0, trained.err
    return made
