"""Runs beside each other: which share a table and a row, and their statistics over seeds.

Runs share a table when they learnt the same classes in the same steps from the same tokens. They share a row
when they differ in nothing but the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avcil.errors import ConfigError, RunError
from avcil.report.statistics import PairedDifference, Sample, paired_difference, sample
from avcil.train.config import RunConfig, flat_table
from avcil.train.methods import METHODS
from avcil.train.record.found_runs import FinishedRun, read_runs

METRICS = ("mean_accuracy", "last_accuracy", "average_forgetting")
COSTS = ("memory_bytes", "seconds_per_step")
MODALITY_ORDER = ("audio", "visual", "audio-visual")  # as in the published tables
# Of several rows of the baseline's method, the one that is alike in these is meant, the first key first.
SHARED_WITH_BASELINE = ("fidelity", "protocol.order", "protocol.memory", "protocol.memory_per_class")
Seeds = tuple[int, int]  # of the classes' order and of training
Settings = Mapping[str, Any]  # every key of a configuration by its dotted name


@dataclass(frozen=True)
class ComparisonRow:
    """The runs of one way to train.

    Attributes:
        method, method_title, modality, fidelity: what was trained.
        variant: settings in which rows of this method and modality differ, in words; else "".
        seeds: seeds of the order and of training of every run.
        accuracy: A_t over the runs, after every step.
        samples: every metric of `METRICS` over the runs, as fractions; None where it is not defined.
        costs: all of `COSTS` over the runs, in their units.
        differences: every metric minus the baseline's over the seeds both have; empty without a baseline.
    """

    method: str
    method_title: str
    modality: str
    fidelity: str
    variant: str
    seeds: tuple[Seeds, ...]
    accuracy: tuple[Sample, ...]
    samples: dict[str, Sample | None]
    costs: dict[str, Sample]
    differences: dict[str, PairedDifference]


@dataclass(frozen=True)
class Comparison:
    """Rows that may be compared: the same classes, steps and tokens.

    Attributes:
        protocol: name of the protocol, names where runs call it differently.
        classes: number of classes.
        step_sizes: classes of every step.
        cache_fingerprint: of the tokens.
        baseline, baseline_title: the method that differences are taken to, None without one.
        rows: one per method, modality and variant.
    """

    protocol: str
    classes: int
    step_sizes: tuple[int, ...]
    cache_fingerprint: str
    baseline: str | None
    baseline_title: str | None
    rows: list[ComparisonRow]


@dataclass(frozen=True)
class Comparisons:
    """All tables of some runs, and which runs stand in none of them and why."""

    tables: list[Comparison]
    left_out: list[str]


@dataclass(frozen=True)
class _Group:
    """The runs of a row by their seeds."""

    settings: Settings
    runs: dict[Seeds, FinishedRun]

    @property
    def first(self) -> FinishedRun:
        return next(iter(self.runs.values()))

    @property
    def way(self) -> tuple[str, str]:
        return self.first.config.method.name, self.first.config.modality


def compare_runs(paths: Iterable[Path], baseline: str | None = None) -> Comparisons:
    """`compare` for run folders and all runs in folders of runs; those not finished are left out.

    Raises:
        RunError: a path is no run and holds none, a run is damaged, or none is finished.
        ConfigError: as `compare`.
    """
    found = read_runs(paths)
    if not found.finished:
        raise RunError(f"no run is finished: {'; '.join(found.unfinished)}")
    comparisons = compare(found.finished, baseline)
    return replace(comparisons, left_out=[*found.unfinished, *comparisons.left_out])


def compare(runs: Iterable[FinishedRun], baseline: str | None = None) -> Comparisons:
    """Group runs into tables and rows and compute their statistics.

    Args:
        runs: finished runs.
        baseline: a method; rows are compared with that of their modality, run by run of the same seeds.

    Raises:
        ConfigError: no run is of the baseline, or it is trained in several ways in one modality.
    """
    tables: dict[tuple[str, tuple[str, ...], tuple[int, ...]], dict[Any, _Group]] = {}
    left_out: list[str] = []
    for run in runs:
        result = run.result
        where = (run.cache_fingerprint, tuple(sorted(result.classes)), tuple(result.step_sizes))
        settings = _settings(run)
        group = tables.setdefault(where, {}).setdefault(tuple(settings.items()), _Group(settings, {}))
        known = group.runs.setdefault(_seeds(run.config), run)
        if known.result.classes != result.classes:
            left_out.append(
                f"{run.path}: learns the classes in another order than {known.path}, with the same seeds; "
                "compare them one by one"
            )
        elif known is not run:
            left_out.append(f"{run.path}: repeats {known.path}, the same run of the same seeds")
    groups = [group for found in tables.values() for group in found.values()]
    titles = {group.way[0]: group.first.result.method_title for group in groups}
    if baseline is not None and baseline not in titles:
        raise ConfigError(f"no run is of the baseline {baseline!r}; there are {', '.join(sorted(titles))}")
    title = None if baseline is None else titles[baseline]
    return Comparisons(
        [_comparison(*where, list(found.values()), baseline, title) for where, found in tables.items()],
        left_out,
    )


def _comparison(
    fingerprint: str,
    classes: Sequence[str],
    step_sizes: tuple[int, ...],
    groups: list[_Group],
    baseline: str | None,
    title: str | None,
) -> Comparison:
    names = sorted({run.config.name for group in groups for run in group.runs.values()})
    variants = {id(group): _variant(group, groups) for group in groups}
    rows = [
        _row(group, variants[id(group)], _baseline(group, groups, variants, baseline)) for group in groups
    ]
    rows.sort(key=_rank)
    return Comparison(" / ".join(names), len(classes), step_sizes, fingerprint, baseline, title, rows)


def _row(group: _Group, variant: str, baseline: _Group | None) -> ComparisonRow:
    samples: dict[str, Sample | None] = {}
    differences: dict[str, PairedDifference] = {}
    for metric in METRICS:
        values = _values(group, metric)
        samples[metric] = sample(list(values.values())) if values else None
        if baseline is not None and baseline is not group:
            others = _values(baseline, metric)
            pairs = [(value, others[seeds]) for seeds, value in values.items() if seeds in others]
            if pairs:
                differences[metric] = paired_difference(pairs)
    config = group.first.config
    by_step = zip(*(run.result.accuracy for run in group.runs.values()), strict=True)
    return ComparisonRow(
        method=config.method.name,
        method_title=group.first.result.method_title,
        modality=config.modality,
        fidelity=config.fidelity,
        variant=variant,
        seeds=tuple(group.runs),
        accuracy=tuple(map(sample, by_step)),
        samples=samples,
        costs={cost: sample(list(_values(group, cost).values())) for cost in COSTS},
        differences=differences,
    )


def _values(group: _Group, metric: str) -> dict[Seeds, float]:
    values = {seeds: getattr(run.result, metric) for seeds, run in group.runs.items()}
    return {seeds: value for seeds, value in values.items() if value is not None}


def _baseline(
    group: _Group, groups: Sequence[_Group], variants: Mapping[int, str], method: str | None
) -> _Group | None:
    """The row of the baseline method with the modality and, where it has them, the settings of `group`."""
    found = [one for one in groups if one.way == (method, group.way[1])]
    for key in SHARED_WITH_BASELINE:
        found = [one for one in found if one.settings[key] == group.settings[key]] or found
    plain = [one for one in found if not variants[id(one)]]
    if len(plain or found) > 1:
        ways = "; ".join(variants[id(one)] for one in found)
        raise ConfigError(
            f"the baseline {method}, {group.way[1]}, is trained in several ways ({ways}); leave out "
            "all but one of them"
        )
    return (plain or found)[0] if found else None


def _settings(run: FinishedRun) -> Settings:
    """What decides a row: the configuration without its seeds, its name, its device and its way to cut."""
    config = run.config
    replays = run.result.old_clips == "exemplars"  # else the memory is a budget that nobody uses
    same = replace(
        config,
        name="",
        protocol=replace(config.protocol.uncut(), classes=(), order_seed=0),
        training=replace(config.training, seed=0, device=""),
    )
    return flat_table(same) | {"protocol.memory": run.result.memory if replays else 0}


def _seeds(config: RunConfig) -> Seeds:
    """Without a shuffle the seed of the order decides nothing."""
    return config.protocol.order_seed * (config.protocol.order == "shuffled"), config.training.seed


def _variant(group: _Group, groups: Sequence[_Group]) -> str:
    """What tells `group` from others of its method and modality, settings at their default left unsaid."""
    rivals = [one.settings for one in groups if one.way == group.way]
    defaults = group.first.method_defaults.items()
    default = flat_table(RunConfig()) | {f"method.{name}": value for name, value in defaults}
    words = []
    for key, value in group.settings.items():
        if any(rival.get(key) != value for rival in rivals) and (
            value != default.get(key) or key == "fidelity"
        ):
            shown = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
            words.append(f"{key.rpartition('.')[2].replace('_', ' ')} {shown}")
    return ", ".join(words)


def _rank(row: ComparisonRow) -> tuple[Any, ...]:
    known = list(METHODS)
    method = known.index(row.method) if row.method in known else len(known)
    return method, row.method, MODALITY_ORDER.index(row.modality), row.variant
