"""The same tensors as other programs save them, and files that hold something else among them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.weight_files import AUDIO, VIDEO, audiomae_state, videomae_folder, videomae_state
from torch import Tensor

from avcil.errors import EncoderError
from avcil.extract.encoders.audiomae import audiomae
from avcil.extract.encoders.videomae import videomae

State = dict[str, Tensor]


def renamed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


HABITS: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "a table within a table": lambda state: {"module": {"lr": 0.1}, "model": {"state_dict": state}},
    "data parallel": lambda state: {"model": renamed("module.")(state)},
    "compiled": renamed("_orig_mod."),
    "compiled and data parallel": renamed("_orig_mod.module."),
    "lightning": lambda state: {"state_dict": renamed("model.")(state), "epoch": 3},
    "openmmlab": lambda state: {
        "state_dict": renamed("backbone.")(state) | {"cls_head.fc_cls.bias": torch.zeros(2)},
        "meta": {},
    },
}


@pytest.mark.parametrize("habit", HABITS)
def test_sound_weights_as_other_programs_save_them(habit: str, tmp_path: Path) -> None:
    torch.save({"model": audiomae_state()}, tmp_path / "plain.pth")
    torch.save(HABITS[habit](audiomae_state()), tmp_path / "other.pth")
    plain, other = (audiomae(AUDIO, str(tmp_path / name)) for name in ("plain.pth", "other.pth"))
    assert other.info.fingerprint == plain.info.fingerprint


@pytest.mark.parametrize("habit", HABITS)
def test_picture_weights_as_other_programs_save_them(habit: str, tmp_path: Path) -> None:
    plain = videomae(VIDEO, videomae_folder(tmp_path / "plain"))
    other = Path(videomae_folder(tmp_path / "other"))
    (other / "model.safetensors").unlink()
    torch.save(HABITS[habit](videomae_state()), other / "pytorch_model.bin")
    assert videomae(VIDEO, str(other)).info.fingerprint == plain.info.fingerprint


def test_endings_in_any_case(tmp_path: Path) -> None:
    torch.save(audiomae_state(), tmp_path / "a.PTH")
    save_file(audiomae_state(), tmp_path / "a.SafeTensors")
    found = [audiomae(AUDIO, str(tmp_path / name)).info.fingerprint for name in ("a.PTH", "a.SafeTensors")]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": audiomae_state() | {"num_batches": 3}}, "'num_batches' among its tensors is of type int"),
        ({"model": audiomae_state(), "best": np.float64(0.5)}, r"it holds a numpy\S+\.scalar, which is no"),
        (
            {"model": audiomae_state(), "out": pathlib.PosixPath("x")},
            r"it holds a pathlib\S*\.PosixPath, which",
        ),
        (torch.nn.Linear(2, 2), r"it holds a torch\.nn\.modules\.linear\.Linear, which is no tensor"),
        (audiomae_state() | {"module.cls_token": torch.zeros(1)}, "'cls_token' is in it twice"),
        ({"epoch": 3}, "no table of tensors in it"),
        ([torch.zeros(1)], "no table of tensors in it"),
    ],
)
def test_what_is_no_tensor_is_named(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(EncoderError, match=message) as caught:
        audiomae(AUDIO, str(tmp_path / "a.pth"))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
