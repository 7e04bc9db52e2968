"""Where things live: data flows one way, no module needs one that needs it, no folder overflows."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import avcil

ROOT = Path(avcil.__file__).resolve().parent
ROOMS = ("cache", "commands", "demo", "extract", "predict", "published", "report", "train")
# What a room may import besides itself and the modules of the root. Commands compose all of them.
MAY_IMPORT = {
    "cache": set(),
    "demo": set(),
    "extract": {"cache"},
    "published": {"cache", "extract"},
    "train": {"cache"},
    "predict": {"cache", "extract", "train"},
    "report": {"cache", "predict", "train"},
}
# Inner rooms that must not reach up into the room around them.
SELF_CONTAINED = {
    "extract.sources": set(),
    "extract.media": set(),
    "extract.encoders": {"cache"},
    "train.tokens": {"cache"},
    "train.network": {"cache", "train.tokens"},
}
MOST_ENTRIES = 15
HEAVY = {"torch", "torchaudio", "av", "decord", "h5py", "numpy", "einops", "safetensors"}


@cache
def modules() -> dict[str, Path]:
    files = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def type_checking(tree: ast.AST) -> set[ast.AST]:
    """Everything below an `if TYPE_CHECKING`."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    return {
        inner for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING" for inner in ast.walk(block)
    }


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, at its top or in a function, as dotted names without `avcil.`."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    unused = type_checking(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name.removeprefix("avcil.") for name in names)


@cache
def needs(module: str) -> frozenset[str]:
    """The modules of the project that a module imports."""
    known = modules()
    found: set[str] = set()
    for name in imports(module):
        owner = name.rpartition(".")[0]
        found |= {name, owner, f"{owner}.__init__"} if name not in known else {name}
    return frozenset(name for name in found if name in known and name != module)


def within(module: str, room: str) -> bool:
    return module.startswith(f"{room}.")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_arrow_points_backwards(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    inside = [module for module in modules() if within(module, room)]
    assert inside
    wrong = {
        module: sorted(
            other
            for other in needs(module)
            if "." in other and not any(within(other, known) for known in allowed)
        )
        for module in inside
    }
    assert {module: found for module, found in wrong.items() if found} == {}


@pytest.mark.parametrize("room", SELF_CONTAINED)
def test_inner_rooms_stand_alone(room: str) -> None:
    allowed = SELF_CONTAINED[room] | {room}
    inside = [module for module in modules() if within(module, room)]
    assert inside
    wrong = {
        module: sorted(
            other
            for other in needs(module)
            if "." in other and not any(within(other, known) for known in allowed)
        )
        for module in inside
    }
    assert {module: found for module, found in wrong.items() if found} == {}


def test_no_module_needs_one_that_needs_it() -> None:
    finished: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in finished:
            for other in sorted(needs(module)):
                visit(other, (*above, module))
            finished.add(module)

    for module in modules():
        visit(module, ())
    assert finished == set(modules())


def test_no_folder_overflows() -> None:
    folders = {path.parent for path in modules().values()} - {ROOT}
    full = {
        str(folder.relative_to(ROOT)): len(entries)
        for folder in folders
        if len(entries := [entry for entry in folder.iterdir() if entry.name != "__pycache__"]) > MOST_ENTRIES
    }
    assert folders and full == {}


def test_the_cache_needs_no_torch() -> None:
    users = [
        module
        for module in modules()
        if within(module, "cache") and "torch" in {name.split(".")[0] for name in imports(module)}
    ]
    assert users == []


def test_opening_a_cache_needs_no_hdf5() -> None:
    code = "import sys, avcil.cache; print(*{'torch', 'h5py'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_only_commands_and_report_draw_on_the_terminal() -> None:
    drawing = [
        module
        for module in modules()
        if "." in module and {name.split(".")[0] for name in imports(module)} & {"rich", "typer"}
    ]
    assert drawing and all(within(module, "report") or within(module, "commands") for module in drawing)


LIGHT = ["avcil", "avcil.cli", "avcil.extract.media.contract", "avcil.extract.sources.manifest"]


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_command_line_takes_its_choices_from_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
