"""Sound in any number of channels and any layout; every file in a process of its own, as some ended it."""

import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.timed_clips import TimedClip, seconds_heard, write_timed

from avcil.errors import DecodeError
from avcil.extract.media.contract import DecodedClip, DecodeRequest
from avcil.extract.media.decode import decode
from avcil.extract.sources.manifest import Clip
from avcil.extract.workers import DecodePool, PoolOptions

LAYOUTS = ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"]
PLANAR = [  # codec, ending, layout, channels
    ("aac", "mp4", "7.1", 8),
    ("aac", "ts", "7.1", 8),
    ("aac", "mp4", "hexadecagonal", 16),
    ("libopus", "webm", "7.1", 8),
    ("alac", "mov", "7.1(wide)", 8),
    *[("flac", "mkv", layout, n) for n, layout in enumerate(LAYOUTS, start=1)],
    *[("pcm_s24le", "mkv", f"{n}C", n) for n in (8, 9, 15, 16, 17, 24)],
    ("libopus", "mkv", "ambisonic 1", 4),
    ("libopus", "mkv", "ambisonic 2", 9),
    ("libopus", "mkv", "ambisonic 3", 16),
]
LABELS = [(2, 1), (1, 1), (3, 3, 3), (1, 0x10000)]  # right left, left left, ...: layouts that have no name


@dataclass(frozen=True)
class Decoding:
    """Work for a process: decode a clip in a window."""

    def __call__(self, clip: Clip) -> DecodedClip | DecodeError:
        """Decode it."""
        return decode(clip.path, DecodeRequest(2, start_s=clip.start_s, end_s=clip.end_s))


def write_labels(path: Path, labels: tuple[int, ...]) -> Path:
    """Write a `.mov` whose channels have these labels of Core Audio, in an atom `chan` with descriptions."""
    layout = {2: "stereo", 3: "2.1"}[len(labels)]
    write_timed(path, TimedClip((0.0, 2.0), (0.0, 2.0), sound="pcm_s16le", layout=layout))
    content = bytearray(path.read_bytes())
    at = content.index(b"chan", content.index(b"sowt")) - 4
    size = int.from_bytes(content[at : at + 4], "big")
    described = b"".join(struct.pack(">II12x", label, 0) for label in labels)
    atom = struct.pack(">4sIIII", b"chan", 0, 0, 0, len(labels)) + described
    atom = struct.pack(">I", len(atom) + 4) + atom
    for name in (b"sowt", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        box = content.rindex(name, 0, at) - 4
        longer = int.from_bytes(content[box : box + 4], "big") + len(atom) - size
        content[box : box + 4] = longer.to_bytes(4, "big")
    content[at : at + size] = atom
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DecodedClip | DecodeError]:
    folder = tmp_path_factory.mktemp("channels")
    clips = []
    for codec, suffix, layout, channels in PLANAR:
        name = f"{codec}-{channels}.{suffix}"
        options = {"mapping_family": "2"} if "ambisonic" in layout else {}
        form = TimedClip(
            (0.0, 2.0),
            (0.0, 2.0),
            codec="libvpx" if suffix == "webm" else "libx264",
            sound=codec,
            layout=layout,
            sound_options=options,
            options={"preset": ""} if suffix == "webm" else {},
        )
        clips.append(Clip(name, write_timed(folder / name, form), "x", "train"))
    for labels in LABELS:
        name = "-".join(map(str, labels))
        clips.append(Clip(name, write_labels(folder / f"{name}.mov", labels), "x", "train"))
    with DecodePool(Decoding(), PoolOptions(1, clips_per_worker=1000)) as pool:
        return {result.clip.id: result.value for result in pool.run(clips)}


@pytest.mark.parametrize(("codec", "suffix", "layout", "channels"), PLANAR)
def test_every_channel_is_heard(
    outcomes: dict[str, DecodedClip | DecodeError], codec: str, suffix: str, layout: str, channels: int
) -> None:
    clip = outcomes[f"{codec}-{channels}.{suffix}"]
    assert isinstance(clip, DecodedClip), f"{layout}: {clip}"
    assert clip.audio.shape[0] == channels and seconds_heard(clip) == "0011"


@pytest.mark.parametrize("labels", LABELS)
def test_layouts_without_a_name_are_heard(
    outcomes: dict[str, DecodedClip | DecodeError], labels: tuple[int, ...]
) -> None:
    clip = outcomes["-".join(map(str, labels))]
    assert isinstance(clip, DecodedClip), str(clip)
    assert clip.audio.shape[0] == len(labels) and seconds_heard(clip) == "0011"
