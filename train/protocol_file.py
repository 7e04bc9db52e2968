"""Protocol files, the presets among them, and how options change them; needs no torch.

A protocol file is a configuration in TOML. It may add what depends on the method that is chosen, its settings
and how many epochs it gets in each modality:

    [methods.avcil]
    lambda_instance = 0.1

    [epochs.finetune]
    audio = 300
    visual = 200
    audio-visual = 150

Both are taken once the method and the modality are known. The file's own `[method]` and `training.epochs`
go before them. The `config.toml` of a run holds what was found and neither of these tables.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from avcil.errors import ConfigError
from avcil.files import first_line
from avcil.tables import MAX_SHOWN, shown
from avcil.train.config import CUTS, Modality, RunConfig, config_from_table, to_table
from avcil.train.methods import METHODS
from avcil.user_code import is_user_code

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"
CHANGED = ", changed"  # of a protocol that options override: its numbers are not the protocol's
# Keys of a protocol that are replaced together: one of them asked for takes the others away.
TOGETHER = ({*CUTS, "increment"}, {"memory", "memory_per_class"})
FORMER_TABLES = {"avcil": "avcil", "ssil": "ss-il", "lwf": "lwf", "afc": "afc-nme] and [methods.afc-lsc"}


@dataclass(frozen=True)
class ProtocolFile:
    """A configuration of which some parts still depend on method and modality.

    Attributes:
        config: what the file gives and, for the rest, the defaults.
        epochs: epochs of a step by method and modality; empty when `training.epochs` is given.
        methods: settings by method.
        named: it is a protocol with a name, which options that change its numbers change too.
    """

    config: RunConfig = field(default_factory=RunConfig)
    epochs: Mapping[str, Mapping[Modality, int]] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    named: bool = False

    def configuration(
        self, *, modality: str | None = None, fidelity: str | None = None, **tables: Mapping[str, Any]
    ) -> RunConfig:
        """The configuration of one run: the file's, with what is asked for in place of its values.

        Another way to cut the classes into steps replaces the file's, and so does another memory.

        Args:
            modality, fidelity: None: as in the file.
            tables: `method`, `protocol`, `training` and `network` with keys as in a file; a value of None is
                as in the file.

        Raises:
            ConfigError: a key or a value is not one.
        """
        asked = {
            name: {key: value for key, value in one.items() if value is not None}
            for name, one in tables.items()
        }
        protocol, training = asked.get("protocol", {}), asked.get("training", {})
        table = to_table(self.config)
        table |= {"modality": modality or table["modality"], "fidelity": fidelity or table["fidelity"]}
        method = asked.get("method", {}).get("name", self.config.method.name)
        own = table["method"] if method == self.config.method.name else {}
        table["method"] = {**self.methods.get(method, {}), **own}
        for keys in TOGETHER:
            if keys & protocol.keys():
                table["protocol"] = {k: v for k, v in table["protocol"].items() if k not in keys}
        published = self.epochs.get(method, {}).get(table["modality"])
        table["training"]["epochs"] = published or table["training"]["epochs"]
        if self.named and (protocol or {"epochs", "select"} & training.keys()):
            table["name"] = table["name"].removesuffix(CHANGED) + CHANGED
        for name, values in asked.items():
            table[name] = {**table.get(name, {}), **values}
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
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise ConfigError(f"{path}: not valid TOML: {first_line(error)}") from error
    if former := [name for name in table if name in FORMER_TABLES]:
        renamed = ", ".join(f"[{name}] is now [methods.{FORMER_TABLES[name]}]" for name in former)
        raise ConfigError(f"{path}: {renamed}; rename the tables, or take out those of other methods")
    methods = _of_methods(table, "methods", str(path))
    epochs = _of_methods(table, "epochs", str(path))
    _check_epochs(epochs, str(path))
    config = config_from_table(RunConfig, table, str(path))
    return ProtocolFile(config, {} if "epochs" in table.get("training", {}) else epochs, methods, named=True)


def load_config(name_or_path: str) -> RunConfig:
    """The configuration of the method and modality that a preset or file names.

    Raises:
        ConfigError: as in `load_protocol`.
    """
    return load_protocol(name_or_path).configuration()


def _of_methods(table: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    """Take out the tables `[key.METHOD]`, of methods that exist or are one's own."""
    found = table.pop(key, {})
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ConfigError(f"{where}: {key} holds a table for each method, like [{key}.finetune]")
    for method in found:
        if method not in METHODS and not is_user_code(method):
            name = method[:MAX_SHOWN]
            near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{where}: {key}.{name} is of no method; did you mean {key}.{near}?")
    return found


def _check_epochs(epochs: Mapping[str, Mapping[str, Any]], where: str) -> None:
    for method, by_modality in epochs.items():
        for modality, number in by_modality.items():
            key = f"epochs.{method}.{modality}"
            if modality not in get_args(Modality):
                raise ConfigError(f"{where}: unknown key {key!r}; choose {', '.join(get_args(Modality))}")
            if type(number) is not int or number < 1:
                raise ConfigError(
                    f"{where}: {key} = {shown(number)}; it must be a whole number of at least 1"
                )
