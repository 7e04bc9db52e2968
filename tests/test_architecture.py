"""Data flows one way: extract -> cache -> train -> report; only the commands compose."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import avcil

ROOT = Path(avcil.__file__).parent
MAY_IMPORT = {
    "cache": {"cache"},
    "extract": {"extract", "cache"},
    "train": {"train", "cache"},
    "report": {"report", "train", "cache"},
}
HEAVY = {"torch", "torchaudio", "av", "decord", "h5py", "numpy", "einops", "safetensors"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # relative: inside the room unless it climbs out of it
                package = path.relative_to(ROOT).parent.parts[: 1 - node.level or None]
                names.add(".".join(["avcil", *package, node.module or ""]))
            else:
                names.add(node.module or "")
    return names


def rooms(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path))
    return {part[1] for part in parts if part[0] == "avcil" and len(part) > 1 and part[1] in MAY_IMPORT}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_arrow_points_backwards(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {str(path.relative_to(ROOT)): sorted(rooms(path) - MAY_IMPORT[room]) for path in files}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_only_residency_brings_torch_into_the_cache() -> None:
    users = {path.name for path in (ROOT / "cache").glob("*.py") if "torch" in imports(path)}
    assert users == {"gpu_fetch.py", "resident.py", "step_tokens.py"}


def test_only_cli_and_report_draw_on_the_terminal() -> None:
    drawing = {
        str(path.relative_to(ROOT))
        for room in MAY_IMPORT
        for path in (ROOT / room).rglob("*.py")
        if {name.split(".")[0] for name in imports(path)} & {"rich", "typer"}
    }
    assert drawing and all(name.startswith("report") for name in drawing)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, avcil.cli; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
