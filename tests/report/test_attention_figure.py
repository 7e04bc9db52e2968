"""Pictures of attention: what cannot be drawn, and files that are whole or not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avcil.errors import RunError
from avcil.predict.attention_maps import ReducedMaps
from avcil.report.attention_figure import AttentionFigure, AttentionRow

FRAMES = np.zeros((4, 8, 8, 3), np.uint8)


def row(space: int) -> AttentionRow:
    return AttentionRow("step 1", ReducedMaps(torch.full((2, space), 1 / space), torch.full((2,), 0.5)))


def test_tokens_must_be_a_square_grid() -> None:
    with pytest.raises(RunError, match="6, not a square grid"):
        AttentionFigure((), FRAMES, [row(6)])


def test_a_picture_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure, save = AttentionFigure((), FRAMES, [row(4)]), Image.Image.save
    figure.write_png(tmp_path / "a.png")
    figure.write_gif(tmp_path / "a.gif")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(image: Image.Image, path: Path, **options: object) -> None:
        save(image, path, format="PNG")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fails)
    for write, name in ((figure.write_png, "a.png"), (figure.write_gif, "a.gif")):
        with pytest.raises(OSError, match="no space left"):
            write(tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
