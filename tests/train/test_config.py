from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avcil.errors import ConfigError
from avcil.train.config import (
    MethodConfig,
    ProtocolConfig,
    RunConfig,
    TrainingConfig,
    differing_keys,
    to_toml,
)
from avcil.train.methods import find_method
from avcil.train.protocol_file import load_config, load_protocol, preset_names


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = RunConfig(
        modality="audio",
        protocol=ProtocolConfig(step_sizes=(2, 3), classes=('a "quoted"', "tab\t", "né\n\u202e🎻"), memory=5),
        training=TrainingConfig(learning_rate=3e-4, device="cpu"),
        method=MethodConfig("my.module:X", {"weight": 0.07, "on": False, "sizes": (1, 2), "kind": "x"}),
    )
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert load_config(str(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training]\nepoch = 3", ["epoch", "did you mean 'training.epochs'"]),
        ("methodd = 'avcil'", ["methodd", "did you mean 'method'"]),
        ("method = 'ss-il'", ["method = 'ss-il'", "write [method] and name = 'ss-il'"]),
        ("[method]\nname = 3", ["method.name = 3", "expected str"]),
        ("[avcil]\nlambda_attention = 2", ["[avcil] is now [methods.avcil]"]),
        ("[afc]\nmargin = 2", ["[afc] is now [methods.afc-nme] and [methods.afc-lsc]"]),
        ("[methods.avcill]\nmargin = 2", ["methods.avcill is of no method", "methods.avcil?"]),
        ("methods = 3", ["[methods.finetune]"]),
        ("[training]\nepochs = '3'", ["training.epochs", "int"]),
        ("[training]\nepochs = true", ["training.epochs", "int"]),
        ("[training]\nepochs = 0", ["training.epochs = 0", "at least 1"]),
        ("modality = 'smell'", ["modality", "audio-visual, audio, visual"]),
        ("protocol = 3", ["protocol", "table"]),
        ("[protocol]\nsteps = 2\nclasses_per_step = 3", ["steps and classes_per_step", "exclude"]),
        ("[protocol]\nclasses = ['a', 'a']", ["'a'", "more than once"]),
        ("[protocol]\nbase = 2", ["base and increment", "give both"]),
        ("[protocol]\nbase = 2\nincrement = 1\nsteps = 2", ["steps and base", "exclude"]),
        ("epochs = 3", ["[epochs.finetune]"]),
        ("[epochs]\nfinetune = 3", ["[epochs.finetune]"]),
        ("[epochs.finetune]\nsmell = 3", ["epochs.finetune.smell", "audio-visual, audio, visual"]),
        ("[epochs.finetune]\naudio = 0", ["epochs.finetune.audio = 0", "at least 1"]),
        ("[epochs.finetune]\naudio = true", ["epochs.finetune.audio = True"]),
        ("not toml at all", ["not valid TOML"]),
    ],
)
def test_a_bad_file_is_refused_by_name(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "protocol.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert all(word in str(caught.value) for word in [*words, str(path)])


def test_a_missing_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="ave-ci, ave-ci-7x4, demo, ks-ci, vs100-ci"):
        load_config("ave-c")


@pytest.mark.parametrize(
    ("name", "sizes", "memory", "lambda_instance"),
    [
        ("ave-ci", (7,) * 4, 340, 0.5),
        ("ks-ci", (6,) * 5, 500, 0.1),
        ("vs100-ci", (10,) * 10, 1500, 0.1),
    ],
)
def test_presets_are_the_published_protocols(
    name: str, sizes: tuple[int, ...], memory: int, lambda_instance: float
) -> None:
    config = load_config(name)
    assert (config.name, config.protocol.step_sizes, config.protocol.memory) == (name, sizes, memory)
    _, settings = find_method("avcil").configured(config.method.settings)
    assert settings.lambda_instance == lambda_instance
    assert (config.training.epochs, config.training.batch, config.training.exemplar_batch) == (200, 256, 128)
    assert name in preset_names()


PUBLISHED = {  # audio, visual, audio-visual on AVE, Kinetics-Sounds and VGGSound100
    "finetune": ((300, 200, 150), (300, 150, 150), (300, 200, 200)),
    "upper-bound": ((300, 200, 150), (200, 100, 100), (300, 200, 200)),
    "icarl-nme": ((300, 200, 150), (200, 100, 100), (300, 200, 200)),
    "icarl-fc": ((300, 200, 150), (200, 100, 100), (300, 200, 200)),
    "lwf": ((300, 200, 200), (200, 200, 100), (300, 200, 200)),
    "ss-il": ((300, 200, 200), (300, 100, 100), (300, 200, 200)),
    "afc-nme": ((300, 200, 150), (300, 100, 100), (300, 200, 200)),
    "afc-lsc": ((300, 200, 150), (300, 100, 100), (300, 200, 200)),
}


@pytest.mark.parametrize(
    ("name", "column"), [("ave-ci", 0), ("ave-ci-7x4", 0), ("ks-ci", 1), ("vs100-ci", 2)]
)
def test_presets_have_the_published_epochs(name: str, column: int) -> None:
    file = load_protocol(name)
    for method, published in PUBLISHED.items():
        for modality, epochs in zip(("audio", "visual", "audio-visual"), published[column], strict=True):
            config = file.configuration(method={"name": method}, modality=modality)
            assert config.training.epochs == epochs
            find_method(method).configured(config.method.settings)
    assert file.configuration(method={"name": "avcil"}).training.epochs == 200
    assert set(file.epochs) == {*PUBLISHED, "avcil"}


def test_epochs_are_of_methods_that_exist(tmp_path: Path) -> None:
    (tmp_path / "slip.toml").write_text("[epochs.finetun]\naudio = 7\n")
    with pytest.raises(ConfigError, match=r"epochs\.finetun is of no method; did you mean epochs\.finetune"):
        load_protocol(str(tmp_path / "slip.toml"))
    (tmp_path / "own.toml").write_text('[epochs."my.module:METHOD"]\naudio = 7\n')
    assert load_protocol(str(tmp_path / "own.toml")).epochs == {"my.module:METHOD": {"audio": 7}}


def test_settings_are_those_of_the_method_that_is_chosen(tmp_path: Path) -> None:
    text = "[method]\nname = 'ss-il'\ndistillation_temperature = 3\n[methods.avcil]\nlambda_instance = 0.1\n"
    (tmp_path / "both.toml").write_text(text)
    file = load_protocol(str(tmp_path / "both.toml"))
    assert file.configuration().method == MethodConfig("ss-il", {"distillation_temperature": 3})
    asked = {"name": "avcil", "lambda_class": 0.2}
    chosen = {"lambda_instance": 0.1, "lambda_class": 0.2}
    assert file.configuration(method=asked).method == MethodConfig("avcil", chosen)
    assert file.configuration(method={"name": "finetune"}).method == MethodConfig("finetune")


def test_epochs_are_looked_up_unless_they_are_given(tmp_path: Path) -> None:
    table = "[epochs.finetune]\naudio = 7\n"
    (tmp_path / "table.toml").write_text(table)
    (tmp_path / "both.toml").write_text(f"[training]\nepochs = 5\n{table}")
    file = load_protocol(str(tmp_path / "table.toml"))
    asked: dict[str, Any] = {"method": {"name": "finetune"}, "modality": "audio"}
    found = file.configuration(**asked)
    assert found.training.epochs == 7
    assert file.configuration(**asked, training={"epochs": 3, "seed": None}).training.epochs == 3
    assert file.configuration(method={"name": "finetune"}).training.epochs == TrainingConfig().epochs
    assert load_protocol(str(tmp_path / "both.toml")).configuration(**asked).training.epochs == 5
    (tmp_path / "config.toml").write_text(to_toml(found))
    assert load_config(str(tmp_path / "config.toml")) == found


def test_differences_are_named() -> None:
    config = RunConfig()
    other = replace(
        config, method=MethodConfig("finetune", {"x": 1}), training=replace(config.training, seed=7)
    )
    assert differing_keys(config, config) == []
    assert differing_keys(config, other) == [
        "method.name ('avcil' against 'finetune')",
        "training.seed (42 against 7)",
    ]
    heavier = replace(config, method=MethodConfig("avcil", {"lambda_instance": 0.5}))
    assert differing_keys(config, heavier) == ["method.lambda_instance (None against 0.5)"]
