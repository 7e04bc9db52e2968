"""Owns protocol files and the presets among them; knows no tokens, no torch and no method by name.

A protocol file is a configuration in TOML. It may add how many epochs a method gets in each modality:

    [epochs.finetune]
    audio = 300
    visual = 200
    audio-visual = 150

The number is looked up once the method and the modality are known. `training.epochs`, when the file gives it
too, goes before the table. The `config.toml` of a run holds the number that was found and no table.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from avcil.errors import ConfigError
from avcil.train.config import Modality, RunConfig, config_from_table
from avcil.user_code import is_user_code

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class ProtocolFile:
    """A configuration whose number of epochs may still depend on method and modality.

    Attributes:
        config: what the file says and, where it says nothing, the defaults.
        epochs: epochs of a step by method and modality; empty when `training.epochs` is given.
    """

    config: RunConfig
    epochs: Mapping[str, Mapping[Modality, int]]

    def require_methods(self, known: Iterable[str]) -> None:
        """Refuse epochs of a method that is neither among `known` nor one of one's own.

        Raises:
            ConfigError: names the nearest known one.
        """
        names = list(known)
        for method in self.epochs:
            if method not in names and not is_user_code(method):
                near = difflib.get_close_matches(method, names, n=1, cutoff=0.0)[0]
                raise ConfigError(f"epochs.{method} is of no method; did you mean epochs.{near}?")

    def changed(self, **changes: Any) -> ProtocolFile:
        """The same with other values for fields of its configuration."""
        return replace(self, config=replace(self.config, **changes))

    def configuration(self, **asked: object) -> RunConfig:
        """The configuration of one run: the file's, with `asked` in place of what it says.

        Args:
            asked: keys of `RunConfig` that are not None; a table's keys as a dict. They are checked like
                those of a file.

        Raises:
            ConfigError: a key or a value is not one.
        """
        table = asdict(self.config)
        for key, value in asked.items():
            if isinstance(value, dict):
                table[key] |= {name: option for name, option in value.items() if option is not None}
            elif value is not None:
                table[key] = value
        given = asked.get("training")
        if not (isinstance(given, dict) and given.get("epochs") is not None):
            published = self.epochs.get(table["method"], {}).get(table["modality"])
            table["training"]["epochs"] = published or table["training"]["epochs"]
        return config_from_table(RunConfig, table, "options")


def preset_names() -> list[str]:
    """Names that `--protocol` takes beside a path."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_protocol(name_or_path: str) -> ProtocolFile:
    """Read a preset by name or a TOML file by path.

    Raises:
        ConfigError: no such preset or file, not TOML, an unknown key, a value of the wrong type or range.
    """
    path = PRESETS / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"protocol {name_or_path!r} is neither a preset ({', '.join(preset_names())}) nor a TOML file"
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    epochs = _epochs(table.pop("epochs", {}), str(path))
    config = config_from_table(RunConfig, table, str(path))
    return ProtocolFile(config, {} if "epochs" in table.get("training", {}) else epochs)


def load_config(name_or_path: str) -> RunConfig:
    """The configuration of the method and modality that a preset or file names.

    Raises:
        ConfigError: as in `load_protocol`.
    """
    return load_protocol(name_or_path).configuration()


def _epochs(table: Any, where: str) -> dict[str, dict[Modality, int]]:
    if not isinstance(table, dict) or not all(isinstance(one, dict) for one in table.values()):
        raise ConfigError(f"{where}: epochs holds a table for each method, like [epochs.finetune]")
    for method, by_modality in table.items():
        for modality, number in by_modality.items():
            key = f"epochs.{method}.{modality}"
            if modality not in get_args(Modality):
                raise ConfigError(f"{where}: unknown key {key!r}; choose {', '.join(get_args(Modality))}")
            if type(number) is not int or number < 1:
                raise ConfigError(f"{where}: {key} = {number!r}; it must be a whole number of at least 1")
    return table
