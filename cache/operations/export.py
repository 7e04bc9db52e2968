"""Tokens as numpy files for other programs, in a folder that appears whole or not at all."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from avcil.cache.reader import TokenCache
from avcil.cache.schema import SPLITS, CacheClip
from avcil.errors import CacheError
from avcil.files import os_errors_as, write_folder

Form = Literal["npz", "npy"]
_CLIPS_AT_ONCE = 16
_Progress = Callable[[int, int], None]


def export(
    cache: TokenCache, out: Path, form: Form, on_progress: _Progress = lambda done, total: None
) -> int:
    """Write the tokens of all clips that have some into the new folder `out`; gives their number.

    `npz`: `000000.npz`, ... with `visual` [T, S, D] and `audio` [D], one file a clip, and `clips.csv` (file,
    id, label, split). `npy`: `train-visual.npy` [n, T, S, D], `train-audio.npy` [n, D] and `train.csv` (row,
    id, label, split), likewise for every split that has clips. Number types are the cache's, but int8 is
    widened to float32. A few clips are in memory at a time.

    Raises:
        CacheError: `out` exists or is being exported to, `form` is unknown, the disk is full, or a checksum
            does not match.
    """
    if form not in get_args(Form):
        raise CacheError(f"cannot export to {form!r}: choose one of {', '.join(get_args(Form))}")
    if os.path.lexists(out):
        raise CacheError(f"{out} exists: choose a new folder")
    clips = cache.present()

    def write(built: Path) -> None:
        if form == "npz":
            _one_file_a_clip(cache, clips, built, on_progress)
        else:
            done = 0
            for split in SPLITS:
                chosen = [clip for clip in clips if clip.split == split]
                for part in _one_file_a_split(cache, chosen, built / split):
                    done += part
                    on_progress(done, len(clips))

    busy = CacheError(f"{out} is being written by another process: wait for it or stop it")
    with os_errors_as(CacheError, f"cannot write {out}"):
        write_folder(out.absolute(), write, busy=busy, durable=False)
    return len(clips)


def _one_file_a_clip(
    cache: TokenCache, clips: Sequence[CacheClip], built: Path, on_progress: _Progress
) -> None:
    with _table(built / "clips.csv", "file") as write:
        for number, clip in enumerate(clips):
            visual, audio = _values(cache, [clip])
            name = f"{number:06d}.npz"
            np.savez(built / name, visual=visual[0], audio=audio[0])
            write(name, clip)
            on_progress(number + 1, len(clips))


def _one_file_a_split(cache: TokenCache, clips: Sequence[CacheClip], stem: Path) -> Iterator[int]:
    """Write one split under names that begin with `stem`; yields the number of clips of each part."""
    if not clips:
        return
    paths = [stem.with_name(f"{stem.name}-{kind}.npy") for kind in ("visual", "audio")]
    with _table(stem.with_suffix(".csv"), "row") as write, ExitStack() as files:
        opened = [files.enter_context(path.open("wb")) for path in paths]
        for start in range(0, len(clips), _CLIPS_AT_ONCE):
            some = clips[start : start + _CLIPS_AT_ONCE]
            for file, values in zip(opened, _values(cache, some), strict=True):
                if not start:
                    header = np.lib.format.header_data_from_array_1_0(values)
                    header["shape"] = (len(clips), *values.shape[1:])
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(values.data)
            for row, clip in enumerate(some, start):
                write(str(row), clip)
            yield len(some)


def _values(cache: TokenCache, clips: Sequence[CacheClip]) -> tuple[np.ndarray, np.ndarray]:
    tokens = cache.read([clip.id for clip in clips])
    return (tokens.visual if tokens.visual_scale is None else tokens.widened()), tokens.audio


@contextmanager
def _table(path: Path, first: str) -> Iterator[Callable[[str, CacheClip], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([first, "id", "label", "split"])
        yield lambda name, clip: table.writerow([name, clip.id, clip.label, clip.split])
