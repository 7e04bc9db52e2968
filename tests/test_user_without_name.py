"""A user id that the system has no name for, as `docker --user 12345` gives, can do everything."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import avcil
from avcil.cache.synthetic import SyntheticSpec, write_synthetic_cache
from avcil.machine import name_the_user

AS_NOBODY = ("unshare", "--user", "--map-user=12345")
BY_PYTHON = "import avcil; avcil.train({!r}, {!r}, steps=2, epochs=1, memory=4)"


def has_namespaces() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*AS_NOBODY, "true"]).returncode


@pytest.mark.skipif(not has_namespaces(), reason="no user namespaces for unshare --user here")
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_train_and_doctor(home: str | None, tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "cache", SyntheticSpec(classes=2, train=3, val=1, test=1))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(avcil.__file__).parents[1])}
    if home is not None:
        environment["HOME"] = home
    cache, run = str(tmp_path / "cache"), str(tmp_path / "run")
    commands = [
        ["-m", "avcil", "train", cache, "--out", run, "--steps", "2", "--epochs", "1", "--memory", "4"]
    ]
    if home is None:
        commands = [["-c", BY_PYTHON.format(cache, run)], ["-m", "avcil", "doctor"]]
    for command in commands:
        done = subprocess.run(
            [*AS_NOBODY, sys.executable, *command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert home is not None or "folder for kernels: " in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "run"}


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_name_is_given_where_there_is_none(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise error("no such user")

    for name in ("LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    name_the_user()
    assert getpass.getuser() == f"uid-{os.getuid()}" and Path.home().is_dir()


def test_a_name_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "someone")
    name_the_user()
    assert os.environ["USER"] == "someone"
