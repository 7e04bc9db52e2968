"""`avcil train`: a token cache into a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.compare import compared, show_comparisons
from avcil.commands.console import err, out
from avcil.train.config import Fidelity, Modality, Precision, Select
from avcil.train.methods import METHODS
from avcil.train.protocol_file import ProtocolFile, load_protocol, preset_names

if TYPE_CHECKING:
    from avcil.cache import TokenCache
    from avcil.train.plan import Plan
    from avcil.train.record.run_folder import Run
    from avcil.train.tokens.budget import TokenPlacement


def train(
    caches: Annotated[
        list[Path], typer.Argument(metavar="CACHE", help="Token cache of avcil extract, or several.")
    ],
    run: Annotated[Path, typer.Option("--out", help="Run folder to write or to go on with.")],
    method: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(METHODS)}, or your own package.module:NAME.", show_default="avcil"),
    ] = None,
    modality: Annotated[
        Modality | None, typer.Option(help="Which tokens to learn from.", show_default="audio-visual")
    ] = None,
    fidelity: Annotated[
        Fidelity | None,
        typer.Option(help="As the published program, or as the papers.", show_default="released"),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(preset_names())} or a TOML file; other options override it."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Cut the classes into this many steps.")] = None,
    classes_per_step: Annotated[int | None, typer.Option(help="Or into steps of this many.")] = None,
    base: Annotated[int | None, typer.Option(help="Or into a first step of this many, and then ...")] = None,
    increment: Annotated[int | None, typer.Option(help="... this many at a time.")] = None,
    memory: Annotated[
        int | None, typer.Option(help="Exemplars in total.", show_default="12 per class")
    ] = None,
    memory_per_class: Annotated[int | None, typer.Option(help="Or exemplars of every class.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs per step.", show_default="the protocol's, else 200")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Weights, batches, exemplars.", show_default="42")] = None,
    order_seed: Annotated[
        int | None, typer.Option(help="Shuffle the classes with this seed.", show_default="as listed")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Several like 42,43,44: a run each, in folders of their own in --out.")
    ] = None,
    order_seeds: Annotated[
        str | None, typer.Option(help="Several orders of the classes like 0,1: each with every seed.")
    ] = None,
    select: Annotated[
        Select | None, typer.Option(help="Which epoch of a step is kept.", show_default="best_val")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="auto is faster: products in float16 on a GPU, in bfloat16 on CPUs that can.",
            show_default="fp32",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write scalars to RUN/tensorboard.")
    ] = False,
    token_budget_gb: Annotated[
        float | None,
        typer.Option(help="What tokens may take on the device.", show_default="60 % of what is free"),
    ] = None,
) -> None:
    """Learn the classes of a cache step by step.

    Run it again to go on after an interruption. Example:

    avcil train cache --out run --method avcil --steps 4 --memory 340
    """
    from avcil.cache import TokenCache
    from avcil.errors import ConfigError, RunError
    from avcil.train.plan import plan_run
    from avcil.train.record.run_folder import is_run
    from avcil.train.sweep import parse_seeds, sweep

    for one, several, option in ((seed, seeds, "seed"), (order_seed, order_seeds, "order-seed")):
        if one is not None and several is not None:
            raise ConfigError(f"--{option} and --{option}s exclude each other; give one of them")
    shuffled = order_seed is not None or order_seeds is not None
    config = (load_protocol(protocol) if protocol else ProtocolFile()).configuration(
        modality=modality,
        fidelity=fidelity,
        method={"name": method},
        protocol={
            "steps": steps,
            "classes_per_step": classes_per_step,
            "base": base,
            "increment": increment,
            "memory": memory,
            "memory_per_class": memory_per_class,
            "order": "shuffled" if shuffled else None,
            "order_seed": order_seed,
        },
        training={
            "epochs": epochs,
            "seed": seed,
            "select": select,
            "precision": precision,
            "device": device,
            "token_budget_gb": token_budget_gb,
        },
    )
    tokens = TokenCache(*caches)
    if seeds is None and order_seeds is None:
        plan = plan_run(tokens, config)
        _note_missing_tokens(tokens)
        run_training(plan, run, tensorboard)
        out.print(f"run: {run}\nnext: avcil eval {quote(str(run))}", markup=False)
        return
    if is_run(run):
        raise RunError(f"{run} holds a single run; choose another --out for runs of several seeds")
    runs = sweep(
        config,
        parse_seeds(seeds, "--seeds") if seeds is not None else (),
        parse_seeds(order_seeds, "--order-seeds") if order_seeds is not None else (),
    )
    plans = {run / name: plan_run(tokens, one) for name, one in runs.items()}
    _note_missing_tokens(tokens)
    run_sweep(plans, tensorboard)
    out.print(f"\nruns: {run}\nnext: avcil compare {quote(str(run))}", markup=False)


def _note_missing_tokens(cache: TokenCache) -> None:
    """An extraction that was stopped must not pass for a small data set."""
    listed, present = len(cache.clips), len(cache.present())
    if present < listed:
        err.print(
            f"note: {listed - present} of {listed} clips have no tokens and are left out: avcil cache info"
        )


def run_sweep(plans: Mapping[Path, Plan], tensorboard: bool) -> None:
    """Train several runs one after the other, those that are finished excepted, and compare them."""
    for number, (path, plan) in enumerate(plans.items(), start=1):
        out.print(f"run {number} of {len(plans)}: {path}", markup=False)
        run_training(plan, path, tensorboard)
    out.print()
    show_comparisons(compared(list(plans)))


def run_training(plan: Plan, run_path: Path, tensorboard: bool = False) -> Run:
    """Train and say how each step went."""
    from avcil.report.progress import progress
    from avcil.report.tensorboard import scalars
    from avcil.train.record.records import StepRecord
    from avcil.train.run import TrainProgress, train_run

    config = plan.config
    sizes = "+".join(map(str, plan.protocol.step_sizes))
    replay = f", memory {plan.protocol.memory}" if plan.method.replays else ""
    trained = (
        f"no network is trained, {plan.device}"
        if plan.method.layer is None
        else f"{config.training.epochs} epochs a step, {plan.device}, {plan.arithmetic}"
    )
    out.print(
        f"{config.method.name}, {config.modality}, {config.fidelity}: {sizes} classes{replay}, {trained}",
        markup=False,
    )
    written = scalars(run_path / "tensorboard") if tensorboard else nullcontext()
    with progress(out, "training") as show, written as writer:

        def on_progress(now: TrainProgress) -> None:
            if writer is not None:
                writer.epoch(now)
            val = "" if now.record.val_accuracy is None else f", val {100 * now.record.val_accuracy:.1f}"
            note = f"step {now.step + 1}, loss {now.record.loss:.3f}{val}"
            show(now.step * now.epochs + now.epoch + 1, now.steps * now.epochs, note)

        def on_step(record: StepRecord) -> None:
            if writer is not None:
                writer.step(record)
            chosen = f"epoch {record.best_epoch + 1} selected, " if record.epochs else ""
            right = sum(p == y for p, y in zip(record.predicted, record.true, strict=True))
            out.print(
                f"  step {record.step + 1}: {record.train_clips} clips, "
                f"{sum(map(len, record.exemplars.values()))} exemplars, {chosen}"
                f"test accuracy {100 * right / len(record.true):.1f} %, {record.seconds:.1f} s",
                markup=False,
            )

        def on_tokens(step: int, tokens: TokenPlacement) -> None:
            out.print(f"  {tokens}", markup=False)

        return train_run(plan, run_path, on_progress=on_progress, on_step=on_step, on_tokens=on_tokens)
