"""Owns what a run is asked to do, as frozen dataclasses and tables; knows neither tokens nor torch.

A configuration is complete: the `config.toml` of a run folder, given back to `avcil train --protocol`,
asks for the same run again. Unknown keys are errors that name the nearest known one.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from avcil.errors import ConfigError

Modality = Literal["audio-visual", "audio", "visual"]
Fidelity = Literal["released", "corrected"]
Precision = Literal["auto", "fp32", "fp64"]
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
        _require(len(asked) <= 1, f"protocol: {' and '.join(asked)} exclude each other; give one of them")
        _require(
            (self.base is None) == (self.increment is None),
            "protocol: base and increment go together; give both",
        )
        _require(
            self.memory is None or self.memory_per_class is None,
            "protocol: memory and memory_per_class exclude each other; give one of them",
        )
        for name in ("steps", "classes_per_step", "base", "increment", "memory", "memory_per_class"):
            value, least = getattr(self, name), 0 if name.startswith("memory") else 1
            _require(
                value is None or value >= least, f"protocol.{name} = {value}; it must be at least {least}"
            )
        _require(
            all(size >= 1 for size in self.step_sizes),
            f"protocol.step_sizes = {list(self.step_sizes)}; every step needs at least one class",
        )
        _require(self.order_seed >= 0, f"protocol.order_seed = {self.order_seed}; it must not be negative")
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        _require(not twice, f"protocol.classes names {twice} more than once; list each class once")

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
    select: Literal["best_val", "last"] = "best_val"
    seed: int = 42
    precision: Precision = "fp32"
    device: str = "auto"
    token_budget_gb: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "exemplar_batch"):
            _require(
                getattr(self, name) >= 1, f"training.{name} = {getattr(self, name)}; it must be at least 1"
            )
        _require(self.seed >= 0, f"training.seed = {self.seed}; it must not be negative")
        _require_positive("training.learning_rate", self.learning_rate)
        _require_weight("training.weight_decay", self.weight_decay)
        budget_gb = self.token_budget_gb or 0.0
        _require(
            0 <= budget_gb <= MAX_BUDGET_GB,
            f"training.token_budget_gb = {budget_gb}; it must be from 0 to {MAX_BUDGET_GB:g}",
        )


@dataclass(frozen=True)
class NetworkConfig:
    """What an audio-visual network does; single-modality networks have no choice.

    `attention = false` averages the visual tokens instead of letting the sound choose where and when to look
    (an ablation of AV-CIL); then there are no attention maps to distil.
    """

    attention: bool = True


@dataclass(frozen=True)
class LwfConfig:
    """Learning without forgetting (Li and Hoiem, ECCV 2016); temperature as there."""

    distillation_temperature: float = 2.0

    def __post_init__(self) -> None:
        _require_positive("lwf.distillation_temperature", self.distillation_temperature)


@dataclass(frozen=True)
class SsilConfig:
    """SS-IL (Ahn et al., ICCV 2021); temperature as AV-CIL runs it.

    `joint_cross_entropy_at_step_1` is what the published program does on AVE with four classes a step and
    nowhere else; it holds for fidelity `released` only.
    """

    distillation_temperature: float = 2.0
    joint_cross_entropy_at_step_1: bool = False

    def __post_init__(self) -> None:
        _require_positive("ssil.distillation_temperature", self.distillation_temperature)


@dataclass(frozen=True)
class AfcConfig:
    """AFC (Kang et al., CVPR 2022); `margin` as in PODNet (Douillard et al., ECCV 2020).

    The feature distillation is weighted by `lambda_distillation * sqrt(t + 1)` at step t (counted from 0).
    """

    lambda_distillation: float = 0.5
    margin: float = 0.6

    def __post_init__(self) -> None:
        _require_weight("afc.lambda_distillation", self.lambda_distillation)
        _require_weight("afc.margin", self.margin)


@dataclass(frozen=True)
class AvcilConfig:
    """Weights and switches of AV-CIL's objective (AV-CIL, sections 3.3 to 3.5).

    `lambda_class = None` takes the value that belongs to the fidelity: 1 for `released`, whose class-aware
    term is divided by the batch size, 0.07 for `corrected`, where it is divided by the positives (Eq. 7).
    Without `separated_cross_entropy` all clips compete over all columns. For
    `joint_cross_entropy_at_step_1` see `SsilConfig`.
    """

    lambda_instance: float = 0.5
    lambda_class: float | None = None
    lambda_attention: float = 0.5
    contrastive_temperature: float = 0.05
    distillation_temperature: float = 2.0
    instance_term: bool = True
    class_term: bool = True
    spatial_term: bool = True
    temporal_term: bool = True
    distillation_term: bool = True
    separated_cross_entropy: bool = True
    joint_cross_entropy_at_step_1: bool = False

    def __post_init__(self) -> None:
        for name in ("contrastive_temperature", "distillation_temperature"):
            _require_positive(f"avcil.{name}", getattr(self, name))
        _require_weight("avcil.lambda_instance", self.lambda_instance)
        _require_weight("avcil.lambda_class", self.lambda_class or 0.0)
        _require(
            0 <= self.lambda_attention <= 1,
            f"avcil.lambda_attention = {self.lambda_attention}; it shares the weight between the spatial "
            "and the temporal map and must lie between 0 and 1",
        )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, apart from the cache."""

    name: str = "custom"
    method: str = "avcil"
    modality: Modality = "audio-visual"
    fidelity: Fidelity = "released"
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    avcil: AvcilConfig = field(default_factory=AvcilConfig)
    ssil: SsilConfig = field(default_factory=SsilConfig)
    lwf: LwfConfig = field(default_factory=LwfConfig)
    afc: AfcConfig = field(default_factory=AfcConfig)


def config_from_table(kind: type[Config], table: dict[str, Any], where: str, prefix: str = "") -> Config:
    """Fill dataclass `kind` from nested tables, checking names and types; `where` is for messages."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            raise ConfigError(f"{where}: unknown key {prefix + key!r}; did you mean {prefix + near[0]!r}?")
        values[key] = _checked(hints[key], value, where, prefix + key)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _checked(hint: Any, value: Any, where: str, key: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: {key} = {value!r}; expected a table [{key}]")
        return config_from_table(hint, value, where, prefix=f"{key}.")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        hint = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _checked(hint, value, where, key)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {key} = {value!r}; choose one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: {key} = {value!r}; expected a list")
        return tuple(_checked(arguments[0], item, where, key) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {key} = {value!r}; expected {hint.__name__}")
    return value


def to_toml(config: RunConfig) -> str:
    """Write a configuration that `load_config` reads back equal; keys that are None are left out."""
    lines: list[str] = []
    tables: list[tuple[str, dict[str, Any]]] = []
    for key, value in asdict(config).items():
        if isinstance(value, dict):
            tables.append((key, value))
        else:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, table in tables:
        lines += ["", f"[{key}]"]
        lines += [f"{name} = {_toml_value(value)}" for name, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Dotted names of the keys in which two configurations differ."""

    def differ(a: Any, b: Any, prefix: str) -> list[str]:
        names: list[str] = []
        for entry in fields(a):
            left, right = getattr(a, entry.name), getattr(b, entry.name)
            if is_dataclass(left):
                names += differ(left, right, f"{prefix}{entry.name}.")
            elif entry.compare and left != right:
                names.append(f"{prefix}{entry.name} ({left!r} against {right!r})")
        return names

    return differ(one, other, "")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, str):
        # JSON escapes are TOML escapes, but for DEL and surrogate pairs, which stay as they are.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)


def _require_weight(name: str, value: float) -> None:
    _require(0 <= value < math.inf, f"{name} = {value}; it must be finite and not negative")


def _require_positive(name: str, value: float) -> None:
    _require(0 < value < math.inf, f"{name} = {value}; it must be positive and finite")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
