"""The Python interface: the commands' work as functions of paths and values. They print nothing.

`docs/api.md` shows all of it in use. What a user can put right is raised as an `AvcilError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avcil.cache import TokenCache
from avcil.errors import ConfigError

if TYPE_CHECKING:
    from avcil.extract.engine import Progress
    from avcil.extract.sources.manifest import Format
    from avcil.report.comparison import Comparisons
    from avcil.train.record.results import Results, Split
    from avcil.train.record.run_folder import Run
    from avcil.train.run import TrainProgress

Paths = Path | str | Sequence[Path | str]
Caches = TokenCache | Paths
"""An opened cache, the folder of one, or the folders of several that are taken as one."""


def extract(
    source: Path | str,
    out: Path | str,
    *,
    format: Format = "auto",
    videos: Path | str | None = None,
    split: str = "0.8/0.1/0.1",
    split_seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> TokenCache:
    """Encode every video of a source into a token cache, or go on with one, as `avcil extract` does.

    Args:
        source: a folder of class folders, a CSV, or a published list.
        out: folder of the cache.
        format: of the source.
        videos: where the videos of a list are; None: where the list is.
        split: train/val/test of class folders without splits, as shares or as clips per class.
        split_seed: which clips go to which split.
        on_progress: called after every decoded clip and every batch.
        options: fields of `ExtractOptions`, such as `visual_encoder`, `visual_weights`, `workers`, `device`.

    Returns:
        The cache, opened; its `failures` say which clips have no tokens, and why.

    Raises:
        ManifestError: the source cannot be read, or no clip at all could be encoded.
        EncoderError, CacheError, ConfigError: see `avcil.errors`.
    """
    from avcil.extract.engine import extract as extract_clips
    from avcil.extract.options import ExtractOptions
    from avcil.extract.sources.manifest import SourceOptions, read_manifest
    from avcil.extract.sources.splits import SplitRule

    if isinstance(options.get("allow_missing"), str):
        options["allow_missing"] = frozenset({options["allow_missing"]})
    chosen = ExtractOptions(**_known(options, [one.name for one in fields(ExtractOptions)]))
    rule = SplitRule.parse(split, seed=split_seed)
    manifest = read_manifest(
        Path(source), SourceOptions(format, None if videos is None else Path(videos), split=rule)
    )
    extract_clips(manifest.clips, Path(out), chosen, on_progress)
    return TokenCache(Path(out))


def train(
    cache: Caches,
    out: Path | str,
    *,
    protocol: str | Path | None = None,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    modality: str | None = None,
    fidelity: str | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    **options: Any,
) -> Run:
    """Learn the classes of a cache step by step, or go on with a run, as `avcil train` does.

    Args:
        cache: the tokens.
        out: folder of the run.
        protocol: a preset's name or a TOML file; None: the defaults.
        method: a method's name or `package.module:NAME`; None: the protocol's, else `avcil`.
        settings: of the method.
        modality: `audio-visual`, `audio` or `visual`.
        fidelity: `released` or `corrected`.
        on_progress: called after every epoch.
        options: keys of the tables `[protocol]` and `[training]`, such as `steps`, `memory`, `epochs`,
            `seed`, `device`.

    Raises:
        ConfigError: something is asked for that does not exist or cannot be done with this cache.
        RunError: `out` holds something else, or another process is training it.
    """
    from avcil.train.config import ProtocolConfig, TrainingConfig
    from avcil.train.plan import plan_run
    from avcil.train.protocol_file import ProtocolFile, load_protocol
    from avcil.train.run import train_run

    if "name" in (settings or {}):
        raise ConfigError("settings has 'name'; give the method's name as `method`")
    in_protocol = [one.name for one in fields(ProtocolConfig)]
    in_training = [one.name for one in fields(TrainingConfig)]
    _known(options, [*in_protocol, *in_training])
    file = load_protocol(str(protocol)) if protocol is not None else ProtocolFile()
    config = file.configuration(
        modality=modality,
        fidelity=fidelity,
        method={"name": method, **(settings or {})},
        protocol={key: value for key, value in options.items() if key in in_protocol},
        training={key: value for key, value in options.items() if key in in_training},
    )
    return train_run(plan_run(_opened(cache), config), Path(out), on_progress=on_progress)


def evaluate(run: Run | Path | str, cache: Paths = (), *, split: Split = "test") -> Results:
    """Classify clips again with the network of every step, as `avcil eval` does.

    Args:
        run: a finished run.
        cache: folders of its cache, where it was moved.
        split: whose clips, `test` or `val`.

    Raises:
        RunError: the run is unfinished, or what its networks predict differs from what training recorded.
        CacheError: the cache is gone or damaged.
    """
    from avcil.train.record.evaluation import evaluate_run
    from avcil.train.record.run_folder import Run

    opened = run if isinstance(run, Run) else Run.open(run)
    return evaluate_run(opened, _paths(cache), split=split)


def compare(runs: Run | Path | str | Iterable[Run | Path | str], baseline: str | None = None) -> Comparisons:
    """Runs beside each other with statistics over seeds, as `avcil compare` shows them.

    Args:
        runs: runs, and folders that hold runs at any depth.
        baseline: the method that differences are taken to.

    Raises:
        RunError: a path is no run and holds none, or no run is finished.
        ConfigError: no run is of the baseline.
    """
    from avcil.report.comparison import compare_runs
    from avcil.train.record.run_folder import Run

    several = [runs] if isinstance(runs, Run | Path | str) else runs
    return compare_runs([run.path if isinstance(run, Run) else Path(run) for run in several], baseline)


def _opened(cache: Caches) -> TokenCache:
    if isinstance(cache, TokenCache):
        return cache
    folders = _paths(cache)
    if not folders:
        raise ConfigError("no cache is given; give the folder of one, or of several")
    return TokenCache(*folders)


def _paths(given: Paths) -> list[Path]:
    """One path or several."""
    return [Path(given)] if isinstance(given, Path | str) else [Path(path) for path in given]


def _known(options: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ConfigError(f"unknown option {name!r}; did you mean {near!r}?")
    return options
