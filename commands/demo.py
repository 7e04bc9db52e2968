"""`avcil demo`: every command in turn on rendered videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avcil.commands.console import out, show, show_command
from avcil.commands.evaluate import run_evaluation
from avcil.commands.extract import run_extraction
from avcil.commands.train import run_training

DEMO_RUNS = (
    ("upper-bound", "audio"),
    ("upper-bound", "visual"),
    ("upper-bound", "audio-visual"),
    ("avcil", "audio-visual"),
    ("finetune", "audio-visual"),
)
REPORTED = ("avcil", "audio-visual")  # its first run gets a page


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for videos, cache and runs.")] = Path(
        "avcil-demo"
    ),
    seeds: Annotated[str, typer.Option(help="Training seeds; the table shows their mean.")] = "42,43,44",
    data_only: Annotated[bool, typer.Option(help="Render the videos and stop.")] = False,
) -> None:
    """Render a small audio-visual data set and run every command on it, in a few minutes on a CPU.

    12 classes are 4 things to see x 3 things to hear: the picture alone
    cannot tell three classes apart, the sound alone cannot tell four apart.
    Example:

    avcil demo --seeds 42
    """
    from avcil.demo.videos import DemoSpec, render_demo
    from avcil.report.progress import progress
    from avcil.train.sweep import parse_seeds

    training_seeds = parse_seeds(seeds, "--seeds")
    with progress(out, "rendering videos") as on_progress:
        table = render_demo(folder, DemoSpec(), on_progress)
    out.print(f"videos: {folder / 'videos'}, listed in {table}", markup=False)
    if data_only:
        return

    from avcil.cache import TokenCache
    from avcil.extract.engine import ExtractOptions
    from avcil.extract.sources.manifest import read_source
    from avcil.extract.sources.splits import SplitRule
    from avcil.report.comparison_tables import accuracy_table
    from avcil.report.pages.run import write_run_page
    from avcil.report.words import title
    from avcil.train.plan import plan_run
    from avcil.train.protocol_file import load_protocol

    cache = folder / "cache"
    encoders = "--visual-encoder demo --audio-encoder demo"
    show_command(f"avcil extract {table} --out {cache} {encoders}")
    out.print("the demo encoders are small and randomly initialised with a fixed seed: nothing is pretrained")
    options = ExtractOptions(visual_encoder="demo", audio_encoder="demo")
    run_extraction(read_source(table, split=SplitRule()), cache, options)

    tokens, protocol = TokenCache(cache), load_protocol("demo")
    rows = []
    for method, modality in DEMO_RUNS:
        results = []
        for seed in training_seeds:
            run = folder / "runs" / f"{method}-{modality}-seed{seed}"
            choice = f"--protocol demo --method {method} --modality {modality} --seed {seed}"
            show_command(f"avcil train {cache} --out {run} {choice}")
            config = protocol.configuration(
                method={"name": method}, modality=modality, training={"seed": seed}
            )
            trained = run_training(plan_run(tokens, config), run)
            results.append(run_evaluation(trained))
            if (method, modality) == REPORTED and seed == training_seeds[0]:
                report = write_run_page(trained, results[-1])
        rows.append((title(results[0]), results))
    over = f"mean of seeds {seeds}" if len(training_seeds) > 1 else f"seed {seeds}"
    out.print()
    show(accuracy_table(rows))
    out.print(f"({over}; demo encoders: small, random)")
    out.print(f"\nvideos: {folder / 'videos'}\ncache:  {cache}\nruns:   {folder / 'runs'}", markup=False)
    out.print(f"report: {report} (open it in a browser: what AV-CIL learned and forgot)", markup=False)
    out.print(f"next:   avcil eval {report.parent}", markup=False)
