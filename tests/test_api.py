"""The Python interface: the page of its documentation runs, and what it promises holds."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import avcil
from avcil.cache import SyntheticSpec, write_synthetic_cache
from avcil.demo.videos import DemoSpec, render_demo
from avcil.errors import ConfigError

PAGE = Path(avcil.__file__).parent / "docs" / "api.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
# What Python finds `avcil` by, in a folder that is not the repository's.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of rendered videos, `videos/`, and one video more, `new/`."""
    made = tmp_path_factory.mktemp("api")
    render_demo(made / "demo", DemoSpec(train=4, val=1, test=2, min_s=0.5, max_s=0.7, fps=10))
    for video in sorted((made / "demo" / "videos").rglob("*.mp4")):
        if video.parent.name.startswith("stripes"):
            name = f"{video.parent.parent.name}-{video.name}"
            (made / "videos" / video.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(video, made / "videos" / video.parent.name / name)
    (made / "new").mkdir()
    shutil.copy(next((made / "videos").rglob("*.mp4")), made / "new" / "new.mp4")
    return made


def run_script(code: str, folder: Path, *, on_standard_input: bool = False) -> str:
    """Run code as a script without a guard, in `folder`; its standard output."""
    (folder / "script.py").write_text(code)
    command, given = (
        ([sys.executable, "-"], code) if on_standard_input else ([sys.executable, "script.py"], None)
    )
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, input=given, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_of_the_documentation_runs(folder: Path) -> None:
    first, second = BLOCKS
    code_lines = [line for line in first.splitlines() if line and not line.startswith("#")]
    assert len(code_lines) < 20
    printed = run_script(first, folder).splitlines()
    assert printed[0].startswith("<Run run: AV-CIL, audio-visual, 3 classes, mean accuracy")
    assert len(printed) == 4 and printed[3].startswith("new.mp4 stripes-")
    assert "AV-CIL" in run_script(second, folder) and len(list((folder / "runs").iterdir())) == 4


def test_a_script_from_standard_input_needs_no_guard(folder: Path) -> None:
    code = """
        import avcil
        options = dict(visual_encoder="demo", audio_encoder="demo", workers=2, split="3/1/2")
        print(len(avcil.extract("videos", "from-stdin", **options).present()))
    """
    assert run_script(textwrap.dedent(code), folder, on_standard_input=True) == "18\n"


def test_importing_is_light() -> None:
    """Nothing but the package and what Python itself has: a few milliseconds (`python -X importtime`)."""
    code = "import sys; before = set(sys.modules); import avcil; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "avcil" in loaded and loaded <= {"avcil", *sys.stdlib_module_names}


def test_every_public_name_is_there_and_packages_stay_packages() -> None:
    import avcil.extract.engine as engine

    assert {name for name in avcil.__all__ if getattr(avcil, name, None) is None} == set()
    assert set(avcil.__all__) <= set(dir(avcil)) and engine is avcil.extract.engine
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        avcil.nothing  # noqa: B018


def test_results_are_a_table_and_say_something(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "cache", SyntheticSpec(classes=4))
    run = avcil.train(tmp_path / "cache", tmp_path / "run", method="finetune", steps=2, epochs=1)
    assert "2 steps" not in repr(run) and "fine-tuning" in repr(run) and "mean accuracy" in repr(run)
    results = avcil.evaluate(tmp_path / "run")
    assert results == run.results == avcil.Run.open(tmp_path / "run").results
    assert repr(results).startswith("<Results of fine-tuning, audio-visual: mean accuracy")
    table = results.to_pandas()
    assert list(table.index) == [1, 2] and table["accuracy"].tolist() == results.accuracy
    assert table["accuracy_of_step_2"].isna().tolist() == [True, False]


def test_options_are_checked_by_name(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "cache", SyntheticSpec(classes=4))
    with pytest.raises(ConfigError, match="unknown option 'epoch'; did you mean 'epochs'"):
        avcil.train(tmp_path / "cache", tmp_path / "run", epoch=3)
    with pytest.raises(ConfigError, match="unknown option 'visual_encodr'; did you mean 'visual_encoder'"):
        avcil.extract(tmp_path, tmp_path / "out", visual_encodr="demo")
    with pytest.raises(ConfigError, match="lambda_instance"):
        avcil.train(tmp_path / "cache", tmp_path / "run", steps=2, settings={"lambda_instanc": 1.0})
    with pytest.raises(ConfigError, match="settings has 'name'"):
        avcil.train(tmp_path / "cache", tmp_path / "run", steps=2, settings={"name": "finetune"})
    with pytest.raises(ConfigError, match="no cache is given"):
        avcil.train([], tmp_path / "run", steps=2)
    assert not (tmp_path / "run").exists()


def test_one_path_is_as_good_as_a_list(tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path / "cache", SyntheticSpec(classes=4))
    run = avcil.train(str(tmp_path / "cache"), tmp_path / "run", method="ncm", steps=2)
    assert avcil.evaluate(run, str(tmp_path / "cache")) == avcil.evaluate(run, [tmp_path / "cache"])
    (table,) = avcil.compare(str(tmp_path / "run")).tables
    assert (
        [row.method for row in table.rows]
        == ["ncm"]
        == [row.method for row in avcil.compare(run).tables[0].rows]
    )
    assert repr(avcil.TokenCache(tmp_path / "cache")).startswith(
        f"<TokenCache {tmp_path / 'cache'}: 80 of 80 clips"
    )
    with pytest.raises(ConfigError, match="split is 'train'"):
        avcil.evaluate(run, split="train")  # type: ignore[arg-type]


def test_comparing_from_python_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys, avcil; avcil.compare; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
