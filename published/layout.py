"""What the authors of AV-CIL published: names of files, splits, shapes, encoders.

Letters: T time, S space, D width.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avcil.cache.schema import CacheClip, EncoderInfo, WeightsOrigin
from avcil.errors import CacheError, ManifestError
from avcil.extract.sources.authors import CLIPS_NAME, read_authors
from avcil.published.features import Features

VISUAL_NAMES = ("visual_pretrained_feature_dict.npy", "visual_features.h5")
AUDIO_NAMES = ("audio_pretrained_feature_dict.npy",)
TIME = 8  # 16 frames in tubelets of 2
SAMPLED = 16  # clips whose shapes are read


@dataclass(frozen=True)
class ReleasedFiles:
    """The files of visual and audio features, and the folder of the split files."""

    visual: Path
    audio: Path
    splits: Path

    @classmethod
    def find(
        cls, folder: Path, visual: Path | None, audio: Path | None, splits: Path | None
    ) -> ReleasedFiles:
        """Take those that are given and find the others in `folder`; raises as `find_released`."""
        return cls(
            splits=splits or find_released(folder, (CLIPS_NAME,), "--splits").parent,
            visual=visual or find_released(folder, VISUAL_NAMES, "--visual"),
            audio=audio or find_released(folder, AUDIO_NAMES, "--audio"),
        )


def listed_clips(splits: Path) -> list[CacheClip]:
    """The clips of a folder of split files, classes ascending, as a cache's manifest wants them.

    Raises:
        ManifestError: a file is missing, damaged or lists no clips.
    """
    entries = read_authors(splits)
    if not entries:
        raise ManifestError(f"{splits / CLIPS_NAME}: it lists no clips")
    return [CacheClip(entry.id, str(entry.label), str(entry.split)) for entry in entries]


def find_released(folder: Path, names: Sequence[str], option: str) -> Path:
    """Find the one file called like one of `names` in a folder, at any depth; links are followed.

    Raises `CacheError`: none, or several (names them); `option` is what names it on the command line.
    """
    if not folder.is_dir():
        raise CacheError(f"{folder}: no such folder; give the one that the features were unpacked into")
    found = sorted(path for path in _files_below(folder) if path.name in names)
    if len(found) == 1:
        return found[0]
    if not found:
        raise CacheError(f"{folder}: no {' or '.join(names)} in it; name the file by {option}")
    listed = ", ".join(str(path) for path in found[:3])
    raise CacheError(f"{folder}: {len(found)} files could be meant ({listed}); name one by {option}")


def _files_below(folder: Path) -> Iterator[Path]:
    visual_shape: set[Path] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if (real := Path(here).resolve()) in visual_shape:  # a link that leads back
            folders.clear()
        else:
            visual_shape.add(real)
            yield from (Path(here, name) for name in names)


def released_encoder(kind: str, name: str) -> EncoderInfo:
    """Say which encoder made the released features of a `kind`, as far as it is known.

    Its weights are not published with them, so the fingerprint is that of a statement: tokens of an encoder
    whose weights are known have another one and are not mixed with these.
    """
    words = f"not published; {kind} features as released by the authors of AV-CIL (ICCV 2023)"
    fingerprint = hashlib.sha256(words.encode("ascii")).hexdigest()
    return EncoderInfo(f"{name}-released", fingerprint, WeightsOrigin("own", words))


def released_shapes(
    clips: Sequence[CacheClip], visual: Features, audio: Features
) -> tuple[tuple[int, int, int], tuple[int]]:
    """The commonest shapes of the first clips, as (T, S, D) and (D,).

    Visual features are [T*S, D] in the order (t, h, w). A damaged clip has no say. Raises `CacheError` where
    the features are not of these clips, all damaged, or not of such a shape.
    """
    both = [clip.id for clip in clips if clip.id in visual.ids and clip.id in audio.ids][:SAMPLED]
    if not both:
        theirs = next(iter(visual.ids), None)
        raise CacheError(
            f"none of the {len(clips)} clips of the split files has features in both {visual.path} and "
            f"{audio.path}: the splits name {clips[0].id!r}, the features {theirs!r}: give the files of one "
            "data set"
        )
    visual_shape, audio_shape = _commonest_shape(visual, both), _commonest_shape(audio, both)
    if len(visual_shape) != 2 or visual_shape[0] % TIME or not visual_shape[0] or len(audio_shape) != 1:
        raise CacheError(
            f"clip {both[0]!r}: visual features {list(visual_shape)} in {visual.path}, audio "
            f"{list(audio_shape)} in {audio.path}: expected [{TIME} x S, D] and [D]"
        )
    return (TIME, visual_shape[0] // TIME, visual_shape[1]), (audio_shape[0],)


def _commonest_shape(features: Features, ids: Sequence[str]) -> tuple[int, ...]:
    shapes: Counter[tuple[int, ...]] = Counter()
    damage: CacheError | None = None
    for clip_id in ids:
        try:
            shapes[features.shape(clip_id)] += 1
        except CacheError as error:
            damage = error
    if damage is not None and not shapes:
        raise damage
    return shapes.most_common(1)[0][0]
