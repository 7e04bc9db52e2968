"""`avcil train`: a token cache into a run."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from avcil.commands.console import out

if TYPE_CHECKING:
    from avcil.cache.budget import TokenPlan
    from avcil.train.config import RunConfig
    from avcil.train.run_folder import RunFolder

CHANGED = ", changed"  # of a protocol that options override: its numbers are not the protocol's


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
    token_budget_gb: Annotated[
        float | None,
        typer.Option(help="What tokens may take on the device.", show_default="60 % of what is free"),
    ] = None,
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
    config = override(
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
        training={
            "epochs": epochs,
            "seed": seed,
            "select": select,
            "device": device,
            "token_budget_gb": token_budget_gb,
        },
    )
    run_training(cache, run, config)
    out.print(f"run: {run}\nnext: avcil eval {quote(str(run))}", markup=False)


def override(config: RunConfig, **asked: object) -> RunConfig:
    """`config` with the options that were given (not None), checked like the keys of a file."""
    from avcil.train.config import RunConfig, config_from_table

    table = asdict(config)
    for key, value in asked.items():
        if isinstance(value, dict):
            table[key] |= {name: option for name, option in value.items() if option is not None}
        elif value is not None:
            table[key] = value
    return config_from_table(RunConfig, table, "options")


def run_training(cache_path: Path, run_path: Path, config: RunConfig) -> RunFolder:
    """Train and say how each step went."""
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

        def on_tokens(step: int, tokens: TokenPlan) -> None:
            out.print(f"  {tokens}", markup=False)

        return train_run(plan, run_path, on_progress=on_progress, on_step=on_step, on_tokens=on_tokens)
