"""The configuration of a run as frozen dataclasses and as TOML tables; needs no torch.

The `config.toml` of a run folder is complete: given back to `avcil train --protocol`, it asks for the same
run again. Unknown keys are errors that name the nearest known one. The settings of a method are a plain
mapping here: their type is the method's own, and loading a method loads torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from avcil.errors import ConfigError
from avcil.tables import BESIDE, from_table, shown

Modality = Literal["audio-visual", "audio", "visual"]
Fidelity = Literal["released", "corrected"]
Precision = Literal["auto", "fp32", "fp64"]
Select = Literal["best_val", "last"]
MAX_BUDGET_GB = 1e9  # more than any machine has, and its bytes are a whole number
CUTS = ("steps", "classes_per_step", "base", "step_sizes")  # keys that cut the classes into steps
Config = TypeVar("Config")


@dataclass(frozen=True)
class ProtocolConfig:
    """Which classes come when, and how many exemplars may be kept.

    Exactly one of `steps`, `classes_per_step`, `step_sizes` and `base` with `increment` decides the cut;
    `base` classes come first, then `increment` at a time, and the last step takes what is left. `classes =
    ()` means every class of the cache. `memory` is the total number of exemplars (AV-CIL, section 4.1:
    340 / 500 / 1500); None means twelve per class, AVE-CI's ratio. `memory_per_class` instead gives every
    class the same budget at all steps.
    """

    steps: int | None = None
    classes_per_step: int | None = None
    base: int | None = None
    increment: int | None = None
    step_sizes: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    order: Literal["listed", "alphabetical", "shuffled"] = "listed"
    order_seed: int = 0
    memory: int | None = None
    memory_per_class: int | None = None

    def __post_init__(self) -> None:
        asked = [name for name in CUTS if getattr(self, name)]
        require(len(asked) <= 1, f"protocol: {' and '.join(asked)} exclude each other; give one of them")
        require(
            (self.base is None) == (self.increment is None),
            "protocol: base and increment go together; give both",
        )
        require(
            self.memory is None or self.memory_per_class is None,
            "protocol: memory and memory_per_class exclude each other; give one of them",
        )
        for name in ("steps", "classes_per_step", "base", "increment", "memory", "memory_per_class"):
            value, least = getattr(self, name), 0 if name.startswith("memory") else 1
            require(
                value is None or value >= least, f"protocol.{name} = {value}; it must be at least {least}"
            )
        require(
            all(size >= 1 for size in self.step_sizes),
            f"protocol.step_sizes = {list(self.step_sizes)}; every step needs at least one class",
        )
        require(self.order_seed >= 0, f"protocol.order_seed = {self.order_seed}; it must not be negative")
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        require(not twice, f"protocol.classes names {twice} more than once; list each class once")

    def uncut(self) -> ProtocolConfig:
        """The same without its way to cut the classes into steps."""
        return replace(self, steps=None, classes_per_step=None, base=None, increment=None, step_sizes=())


@dataclass(frozen=True)
class TrainingConfig:
    """How one step is fitted. Defaults are the published ones (AV-CIL, section 4.1).

    `precision` is that of the attention's large matrix products: `fp32` reproduces the published numbers;
    `auto` is faster and takes float16 on a GPU, bfloat16 on CPUs that multiply it, and float32 for all else;
    `fp64` computes everything in float64.

    `token_budget_gb` (1e9 bytes) is what the tokens of a step may take where they are used, None a share of
    what is free; it changes no number, so a run may go on with another one.
    """

    epochs: int = 200
    batch: int = 256
    exemplar_batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    select: Select = "best_val"
    seed: int = 42
    precision: Precision = "fp32"
    device: str = "auto"
    token_budget_gb: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "exemplar_batch"):
            require(
                getattr(self, name) >= 1, f"training.{name} = {getattr(self, name)}; it must be at least 1"
            )
        require(self.seed >= 0, f"training.seed = {self.seed}; it must not be negative")
        require_positive("training.learning_rate", self.learning_rate)
        require_weight("training.weight_decay", self.weight_decay)
        budget_gb = self.token_budget_gb or 0.0
        require(
            0 <= budget_gb <= MAX_BUDGET_GB,
            f"training.token_budget_gb = {budget_gb}; it must be from 0 to {MAX_BUDGET_GB:g}",
        )


@dataclass(frozen=True)
class NetworkConfig:
    """What an audio-visual network does; single-modality networks have no choice.

    `attention = false` averages the visual tokens instead of weighting places and moments by the sound (an
    ablation of AV-CIL); then there are no attention maps to distil.
    """

    attention: bool = True


@dataclass(frozen=True)
class MethodConfig:
    """Which method, and its settings.

    Attributes:
        name: one of ours, or `package.module:NAME`.
        settings: by name, as they were given; in a plan they are checked and complete, but for those that
            are None.
    """

    name: str = "avcil"
    settings: Mapping[str, Any] = field(default_factory=dict, metadata=BESIDE)

    @classmethod
    def as_fields(cls, table: Any) -> Any:
        """In files the settings stand beside the name; lists in them become tuples."""
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"method = {shown(table)} is a table now: write [method] and name = {shown(table)}"
            )
        settings = {key: _frozen(key, value) for key, value in table.items() if key != "name"}
        return {"settings": settings} | {key: table[key] for key in ("name",) if key in table}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, apart from the cache."""

    name: str = "custom"
    modality: Modality = "audio-visual"
    fidelity: Fidelity = "released"
    method: MethodConfig = field(default_factory=MethodConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)


def config_from_table(kind: type[Config], table: Mapping[str, Any], where: str, key: str = "") -> Config:
    """Fill dataclass `kind` from nested tables, checking names and types; `where` and `key` are for messages.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or one that `kind` refuses.
    """
    return from_table(kind, table, ConfigError, where=where, key=key, finite=False)


def to_table(config: RunConfig) -> dict[str, Any]:
    """A configuration as nested tables, those of its TOML; a method's settings stand beside its name."""
    table = asdict(config)
    table["method"] = {"name": config.method.name, **config.method.settings}
    return table


def flat_table(config: RunConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted name, such as `training.epochs`."""
    flat: dict[str, Any] = {}
    for key, value in to_table(config).items():
        inner = value if isinstance(value, dict) else None
        flat |= {key: value} if inner is None else {f"{key}.{name}": one for name, one in inner.items()}
    return flat


def to_toml(config: RunConfig) -> str:
    """Write a configuration that `load_config` reads back equal; keys that are None are left out."""
    lines: list[str] = []
    tables: list[tuple[str, dict[str, Any]]] = []
    for key, value in to_table(config).items():
        if isinstance(value, dict):
            tables.append((key, value))
        else:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, table in tables:
        lines += ["", f"[{key}]"]
        lines += [f"{name} = {_toml_value(value)}" for name, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Dotted names of the keys in which two configurations differ; of two methods the names alone."""
    left, right = map(flat_table, (one, other))
    names = dict.fromkeys([*left, *right])
    if one.method.name != other.method.name:
        names = dict.fromkeys(key for key in names if key == "method.name" or not key.startswith("method."))
    return [
        f"{key} ({left.get(key)!r} against {right.get(key)!r})"
        for key in names
        if left.get(key) != right.get(key) and key != "training.token_budget_gb"  # it changes no number
    ]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, str):
        # JSON escapes are TOML escapes, but for DEL and surrogate pairs, which stay as they are.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)


def _frozen(key: str, value: Any) -> Any:
    """A setting as something that can be compared and written again: a single value, or a tuple of them."""
    if isinstance(value, Mapping):
        raise ConfigError(f"method.{key} is a table; a setting is a single value or a list of values")
    return tuple(_frozen(key, one) for one in value) if isinstance(value, list) else value


def require_weight(name: str, value: float) -> None:
    """Refuse a weight that is negative or not finite, by its dotted `name`."""
    require(0 <= value < math.inf, f"{name} = {value}; it must be finite and not negative")


def require_positive(name: str, value: float) -> None:
    """Refuse a number that is not positive or not finite, by its dotted `name`."""
    require(0 < value < math.inf, f"{name} = {value}; it must be positive and finite")


def require(holds: bool, message: str) -> None:
    """Raise `ConfigError` with `message` unless `holds`."""
    if not holds:
        raise ConfigError(message)
