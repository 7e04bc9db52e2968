"""Owns the command line: composes extract, cache, train and report; computes nothing itself.

Nothing heavy is imported at the top, so that `avcil --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.measure import Measurement

from avcil import __version__, rest_idle_threads
from avcil.errors import AvcilError, ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from avcil.extract.decode import Backend, Track
    from avcil.extract.engine import ExtractOptions, Space
    from avcil.extract.manifest import Clip, Manifest
    from avcil.extract.tokens import Precision
    from avcil.train.config import RunConfig
    from avcil.train.evaluate import Evaluation
    from avcil.train.run_folder import RunFolder

app = typer.Typer(
    name="avcil",
    help="Learn new classes of video, by sight and sound together, without forgetting the old ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

INTERRUPTED = 130
CHANGED = ", changed"  # of a protocol that options override: its numbers are not the protocol's
MAX_CLASSES_SHOWN = 7
DEMO_RUNS = (
    ("upper-bound", "audio"),
    ("upper-bound", "visual"),
    ("upper-bound", "audio-visual"),
    ("avcil", "audio-visual"),
    ("finetune", "audio-visual"),
)


def main() -> None:
    """Entry point: an error a user can mend is one line on standard error and exit code 2."""
    rest_idle_threads()
    try:
        code = app(standalone_mode=False) or 0
    except AvcilError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        words = error.format_message()
        if not words:  # no command: the help was printed
            sys.exit(2)
        _fail(f"{words} (avcil --help lists commands, avcil COMMAND --help options)")
    if code == INTERRUPTED:  # typer hands Ctrl-C over as this code
        err.print("interrupted; give the same command again to go on")
    sys.exit(code)


def _show(table: Table) -> None:
    """Print a table at its own width: a file or a pipe has no edge, and a narrow terminal may wrap."""
    natural = Measurement.get(out, out.options.update(max_width=10_000), table).maximum
    out.print(table, width=max(out.width, natural))


def _fail(message: str) -> NoReturn:
    err.print(f"error: {_printable(message)}", markup=False)
    sys.exit(2)


def _printable(text: str) -> str:
    """`text` in one line, with control characters (a label may hold any) made visible."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in text)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        out.print(f"avcil {__version__}")
        raise typer.Exit


@app.command()
def extract(
    source: Annotated[
        Path, typer.Argument(help="Folder of class folders, CSV id,path,label,split, or a published list.")
    ],
    cache: Annotated[Path, typer.Option("--out", help="Token cache to write or to go on with.")],
    visual_encoder: Annotated[
        str, typer.Option(help="videomae-small, -base, -large, demo, or your own package.module:factory.")
    ] = "videomae-base",
    audio_encoder: Annotated[
        str, typer.Option(help="audiomae-base, demo, or your own package.module:factory.")
    ] = "audiomae-base",
    visual_weights: Annotated[
        str | None,
        typer.Option(help="Folder, .pth file, NAME[@REVISION] on the hub; 'random' to try the plumbing."),
    ] = None,
    audio_weights: Annotated[
        str | None,
        typer.Option(help="Folder, file, NAME[@REVISION] on the hub; 'random' to try the plumbing."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="recommended, or as the published scripts: released, released-ave.")
    ] = ("recommended"),
    format: Annotated[
        str, typer.Option(help="folder, csv, ave, vggsound, kinetics or authors (see docs/sources.md).")
    ] = "auto",
    videos: Annotated[
        Path | None, typer.Option(help="Folder of a list's videos.", show_default="where SOURCE is")
    ] = None,
    only: Annotated[
        Path | None, typer.Option("--list", help="File of ids, one a line: take only these from a list.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="For class folders without splits: counts 16/4/4 or shares 0.8/0.1/0.1.")
    ] = "0.8/0.1/0.1",
    split_seed: Annotated[int, typer.Option(help="Which clips go to which split.")] = 0,
    decoder: Annotated[str, typer.Option(help="auto, pyav or decord.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Decoding processes; 0 decodes here.", show_default="cores")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips per encoder pass.", show_default="8, 32 on a GPU")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="auto (every GPU, else the CPU), cpu, or a list like cuda:0,cuda:1.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (fp16 on a GPU, fp32 on a CPU), fp32, bf16 or fp16.")
    ] = "auto",
    deadline_s: Annotated[float, typer.Option(min=1.0, help="Seconds a clip may take to decode.")] = 60.0,
    allow_missing: Annotated[
        str | None, typer.Option(help="audio: encode clips without sound with silence, and flag them.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Try clips again that failed before.")] = False,
    compile: Annotated[bool, typer.Option(help="Run the encoders through torch.compile.")] = False,
) -> None:
    """Encode every video once into an HDF5 cache of tokens.

    Run it again to go on after an interruption. Example:

    avcil extract videos/ --out cache --visual-weights videomae-base/ --audio-weights audiomae.pth
    """
    from avcil.extract.engine import ExtractOptions
    from avcil.extract.manifest import Format, SourceOptions, read_manifest
    from avcil.extract.splits import SplitRule

    rule = SplitRule.parse(split, seed=split_seed)
    manifest = read_manifest(source, SourceOptions(cast("Format", format), videos, only, rule))
    _show_coverage(manifest)
    options = ExtractOptions(
        visual_encoder=visual_encoder,
        audio_encoder=audio_encoder,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
        recipe=recipe,
        decoder=cast("Backend", decoder),
        workers=workers,
        batch=batch,
        device=devices,
        precision=cast("Precision", precision),
        deadline_s=deadline_s,
        retry_failed=retry_failed,
        allow_missing=frozenset({cast("Track", allow_missing)} if allow_missing else ()),
        compile=compile,
    )
    _extract(list(manifest.clips), cache, options)
    out.print(f"cache: {cache}\nnext: avcil train {quote(str(cache))} --out RUN --steps N", markup=False)


def _show_coverage(manifest: Manifest) -> None:
    """Say which classes lack videos, the worst first; nothing if all are there."""
    if manifest.missing:
        n = len(manifest.clips)
        err.print(f"{len(manifest.missing)} of {n} videos are missing; there are, by class:", markup=False)
        lacking = [one for one in manifest.coverage() if one.present < one.listed]
        for one in lacking[:MAX_CLASSES_SHOWN]:
            share = f"{100 * one.present / one.listed:.0f} %"
            line = f"  {share:>5}  {one.present} of {one.listed}  {one.label}"
            err.print(_printable(line), markup=False)
        if len(lacking) > MAX_CLASSES_SHOWN:
            err.print(f"  and {len(lacking) - MAX_CLASSES_SHOWN} more classes lack some", markup=False)
    if manifest.unplaced:
        named = ", ".join(manifest.unplaced[:3])
        n = len(manifest.unplaced)
        line = f"{n} listed ids are left out, no class or no clip goes with them: {named}"
        err.print(_printable(line), markup=False)


def _extract(clips: list[Clip], cache: Path, options: ExtractOptions) -> None:
    from avcil.extract.engine import extract as run_extract
    from avcil.report.progress import progress

    classes = len({clip.label for clip in clips})

    def on_start(space: Space) -> None:
        out.print(
            f"{len(clips)} clips of {classes} classes, {space.new_clips} new to the cache: "
            f"{space.needed_bytes / 1e9:.2f} GB to write, {space.free_bytes / 1e9:.1f} GB free"
        )

    with progress(out, "extracting") as show:
        summary = run_extract(
            clips,
            cache,
            options,
            on_progress=lambda now: show(now.already + now.done + now.failed, now.total),
            on_start=on_start,
        )
    out.print(
        f"{summary.done} clips encoded in {summary.elapsed_s:.1f} s ({summary.clips_per_s:.1f} clips/s), "
        f"{summary.already} there before, {len(summary.failures)} failed",
        markup=False,
    )
    if summary.done:
        out.print(summary.verdict)
    for failure in summary.failures[:10]:
        line = f"  failed: {failure.id}: {failure.kind}: {failure.detail}"
        err.print(_printable(line), markup=False)
    if len(summary.failures) > 10:
        err.print(f"  and {len(summary.failures) - 10} more")
    if summary.others:
        err.print(
            f"note: {summary.others} clips of earlier extractions stay in the cache, with their splits, and "
            "will be trained on; choose another --out to leave them out"
        )
    if summary.failures:
        err.print(f"  all failures: {cache / 'failures.csv'}", markup=False)


@app.command()
def train(
    cache: Annotated[Path, typer.Argument(help="Token cache of avcil extract.")],
    run: Annotated[Path, typer.Option("--out", help="Run folder to write or to go on with.")],
    method: Annotated[str | None, typer.Option(help="avcil, finetune or upper-bound.")] = None,
    modality: Annotated[str | None, typer.Option(help="audio-visual, audio or visual.")] = None,
    fidelity: Annotated[
        str | None, typer.Option(help="released (as the published program) or corrected (as the papers).")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="ave-ci, ks-ci, vs100-ci or a TOML file; other options override it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Cut the classes into this many steps.")] = None,
    classes_per_step: Annotated[int | None, typer.Option(help="Or into steps of this many.")] = None,
    memory: Annotated[
        int | None, typer.Option(help="Exemplars in total.", show_default="12 per class")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per step.", show_default="200")] = None,
    seed: Annotated[int | None, typer.Option(help="Weights, batches, exemplars.", show_default="42")] = None,
    order_seed: Annotated[
        int | None, typer.Option(help="Shuffle the classes with this seed.", show_default="as listed")
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="best_val or last epoch of a step.", show_default="best_val")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
) -> None:
    """Learn the classes of a cache step by step.

    Run it again to go on after an interruption. Example:

    avcil train cache --out run --method avcil --steps 4 --memory 340
    """
    from avcil.train.config import RunConfig, load_config

    config = load_config(protocol) if protocol else RunConfig()
    if steps is not None or classes_per_step is not None:  # the protocol's own cut gives way
        uncut = replace(config.protocol, steps=None, classes_per_step=None, step_sizes=())
        config = replace(config, protocol=uncut)
    changed = (steps, classes_per_step, memory, order_seed, epochs, select)
    if protocol and any(option is not None for option in changed):
        config = replace(config, name=f"{config.name.removesuffix(CHANGED)}{CHANGED}")
    config = _override(
        config,
        method=method,
        modality=modality,
        fidelity=fidelity,
        protocol={
            "steps": steps,
            "classes_per_step": classes_per_step,
            "memory": memory,
            "order": None if order_seed is None else "shuffled",
            "order_seed": order_seed,
        },
        training={"epochs": epochs, "seed": seed, "select": select, "device": device},
    )
    _train(cache, run, config)
    out.print(f"run: {run}\nnext: avcil eval {quote(str(run))}", markup=False)


def _override(config: RunConfig, **asked: object) -> RunConfig:
    """`config` with the options that were given (not None), checked like the keys of a file."""
    from avcil.train.config import RunConfig, config_from_table

    table = asdict(config)
    for key, value in asked.items():
        if isinstance(value, dict):
            table[key] |= {name: option for name, option in value.items() if option is not None}
        elif value is not None:
            table[key] = value
    return config_from_table(RunConfig, table, "options")


def _train(cache_path: Path, run_path: Path, config: RunConfig) -> RunFolder:
    from avcil.cache import TokenCache
    from avcil.report.progress import progress
    from avcil.train.run import TrainProgress, plan_run, train_run
    from avcil.train.run_folder import StepRecord

    plan = plan_run(TokenCache(cache_path), config)
    sizes = "+".join(map(str, plan.protocol.step_sizes))
    replay = f", memory {plan.protocol.memory}" if plan.method.replays else ""
    out.print(
        f"{config.method}, {config.modality}, {config.fidelity}: {sizes} classes{replay}, "
        f"{config.training.epochs} epochs a step, {plan.device}",
        markup=False,
    )
    with progress(out, "training") as show:

        def on_progress(now: TrainProgress) -> None:
            val = "" if now.record.val_accuracy is None else f", val {100 * now.record.val_accuracy:.1f}"
            note = f"step {now.step + 1}, loss {now.record.loss:.3f}{val}"
            show(now.step * now.epochs + now.epoch + 1, now.steps * now.epochs, note)

        def on_step(record: StepRecord) -> None:
            right = sum(p == y for p, y in zip(record.predicted, record.true, strict=True))
            out.print(
                f"  step {record.step + 1}: {record.train_clips} clips, "
                f"{sum(map(len, record.exemplars.values()))} exemplars, epoch {record.best_epoch + 1} "
                f"selected, test accuracy {100 * right / len(record.true):.1f} %, {record.seconds:.1f} s",
                markup=False,
            )

        return train_run(plan, run_path, on_progress=on_progress, on_step=on_step)


@app.command(name="eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of avcil train.")],
    cache: Annotated[
        Path | None, typer.Option(help="The run's cache, if it was moved.", show_default="where it was")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show what a run learned and what it forgot.

    The test clips are classified again with every step's network and compared with training's record.
    """
    from avcil.report import tables

    result = _evaluate(run, cache)
    if as_json:
        from avcil.train.metrics import DEFINITIONS

        typer.echo(json.dumps({**asdict(result), "definitions": DEFINITIONS}, ensure_ascii=False, indent=1))
        return
    for table in (tables.steps_table(result), tables.matrix_table(result)):
        _show(table)
        out.print()
    for line in tables.headline(result):
        out.print(line, markup=False)


def _evaluate(run_path: Path, cache_path: Path | None = None) -> Evaluation:
    from avcil.report.progress import progress
    from avcil.train.evaluate import evaluate_run
    from avcil.train.run_folder import RunFolder

    with progress(err, "evaluating") as show:
        return evaluate_run(RunFolder.open(run_path), cache_path, show)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for videos, cache and runs.")] = Path("demo"),
    seeds: Annotated[str, typer.Option(help="Training seeds; the table shows their mean.")] = "42,43,44",
    data_only: Annotated[bool, typer.Option(help="Render the videos and stop.")] = False,
) -> None:
    """Render a small audio-visual data set and run the whole road on it, in a few minutes on a CPU.

    12 classes are 4 things to see x 3 things to hear: the picture alone cannot tell three classes apart,
    the sound alone cannot tell four apart.
    """
    from avcil.extract.demo_videos import DemoSpec, render_demo
    from avcil.report.progress import progress

    training_seeds = _seeds(seeds)
    with progress(out, "rendering videos") as show:
        table = render_demo(folder, DemoSpec(), show)
    out.print(f"videos: {folder / 'videos'}, listed in {table}", markup=False)
    if data_only:
        return

    from avcil.extract.engine import ExtractOptions
    from avcil.extract.manifest import read_source
    from avcil.extract.splits import SplitRule
    from avcil.report import tables
    from avcil.train.config import load_config

    cache = folder / "cache"
    encoders = "--visual-encoder demo --audio-encoder demo"
    _say(f"avcil extract {table} --out {cache} {encoders}")
    out.print("the demo encoders are small and randomly initialised with a fixed seed: nothing is pretrained")
    options = ExtractOptions(visual_encoder="demo", audio_encoder="demo")
    _extract(read_source(table, split=SplitRule()), cache, options)

    rows = []
    for method, modality in DEMO_RUNS:
        results = []
        for seed in training_seeds:
            run = folder / "runs" / f"{method}-{modality}-seed{seed}"
            choice = f"--protocol demo --method {method} --modality {modality} --seed {seed}"
            _say(f"avcil train {cache} --out {run} {choice}")
            config = _override(load_config("demo"), method=method, modality=modality, training={"seed": seed})
            _train(cache, run, config)
            results.append(_evaluate(run))
        rows.append((tables.title(results[0]), results))
    seeds_said = f"mean of seeds {seeds}" if len(training_seeds) > 1 else f"seed {seeds}"
    out.print()
    _show(tables.comparison_table(rows))
    out.print(f"({seeds_said}; demo encoders: small, random)")
    out.print(f"\nvideos: {folder / 'videos'}\ncache:  {cache}\nruns:   {folder / 'runs'}", markup=False)
    out.print(f"next:   avcil eval {run}", markup=False)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text!r}; give whole numbers like 42,43,44") from None


def _say(command: str) -> None:
    out.print(f"\n$ {command}", markup=False, style="bold")
