"""The shell's completion, as bash asks for it from the installed command."""

import os
import subprocess
import sys
from pathlib import Path


def completed(script: Path, words: str) -> list[str]:
    number = str(len(words.split()) - 1)
    asked = {"_AVCIL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
    env = {**os.environ, **asked, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=env)
    return done.stdout.split()


def test_commands_options_and_choices_are_completed(tmp_path: Path) -> None:
    script = tmp_path / "avcil"  # completion goes by the command's name
    script.write_text("from avcil.cli import main\nmain()\n")
    assert completed(script, "avcil pre") == ["predict"]
    assert completed(script, "avcil eval run --split t") == ["test"]
    assert set(completed(script, "avcil predict --vis")) == {"--visual-weights", "--visual-encoder"}
