"""The wheel holds the package and its data, and nothing else at the top of site-packages."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import avcil

ROOT = Path(avcil.__file__).resolve().parent
ROOMS = ("cache", "commands", "demo", "extract", "predict", "published", "report", "train")
DATA = (".py", ".toml", ".html", ".css")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that leftovers of the checkout neither help nor harm."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests"))
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation, so that the test needs no network; `python -m build` does the same in a fresh one.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_only_avcil_is_installed(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"avcil"}


def test_every_module_and_data_file_is_inside(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in DATA]
    files += list(ROOT.glob("*.py"))
    missing = {f"avcil/{path.relative_to(ROOT).as_posix()}" for path in files} - packed
    assert len(files) > 20 and not missing


def test_tests_and_references_stay_out(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "/tests/" in name or "golden" in name or "benchmark" in name]


def test_the_licence_travels(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
