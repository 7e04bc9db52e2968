"""Every example of a format in docs/sources.md is read as the format it is shown for."""

import re
from pathlib import Path

import pytest

import avcil
from avcil.extract.sources.clip import Clip
from avcil.extract.sources.manifest import SourceOptions, detect, read_manifest

PAGE = Path(avcil.__file__).parent / "docs" / "sources.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="an installed package has no docs")


def examples() -> list[tuple[str, str]]:
    if not PAGE.is_file():
        return []
    found, format = [], ""
    for name, block in re.findall(
        r"^\*\*(\w+)\*\*|^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S
    ):
        format = name or format
        if block and format in ("csv", "ave", "vggsound", "kinetics"):
            found.append((format, block))
    return found


def test_all_formats_have_an_example() -> None:
    assert [format for format, _ in examples()] == ["csv", "ave", "vggsound", "kinetics", "kinetics"]


@pytest.mark.parametrize(("format", "text"), examples())
def test_an_example_is_read(format: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for name in ("cats/1", "RUhOCu3LNXM", "---g-f_I2yQ_000001", "-3B32lodo2M_000059_000069"):
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "cats" / "-3B32lodo2M_000059_000069.mp4").touch()
    if text.startswith("-3B"):  # its class is that of the folder
        (tmp_path / "-3B32lodo2M_000059_000069.mp4").unlink()
    elif format == "kinetics":
        (tmp_path / "cats" / "-3B32lodo2M_000059_000069.mp4").unlink()
    source = tmp_path / "list.txt"
    source.write_text(text, encoding="utf-8")
    assert detect(source) == format
    clips: tuple[Clip, ...] = read_manifest(source, SourceOptions()).clips
    assert len(clips) == len(text.splitlines()) - text.startswith(("id,", "Category", "label"))
