"""The page of one run, `report.html`: its numbers, charts, matrices, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avcil.files import write_text
from avcil.report.pages import curves
from avcil.report.pages.page import EMPTY_CELL, HeatMap, HeatRow, Number, heat_cell, label, render
from avcil.report.words import SELECTION, SPLIT_WORDS, chances, percent, signed, story, title
from avcil.train.config import to_toml
from avcil.train.protocol import Protocol
from avcil.train.record.metrics import DEFINITIONS, most_confused, step_confusion
from avcil.train.record.records import StepRecord
from avcil.train.record.results import MOST_CONFUSED, Evaluation
from avcil.train.record.run_folder import RunFolder

MANY_CLASSES = 30  # tables with a row for each are folded away
ENDS = 5  # classes shown of each end then
GIB = 2**30


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes; fractions and the step it came with, from 1."""

    name: str
    number: int
    step: int
    clips: int
    learned: float
    now: float


@dataclass(frozen=True)
class StepRow:
    """A step in the table of steps and in the list of classes."""

    number: int
    classes: Sequence[str]
    seen: int
    chance: float
    accuracy: float
    forgetting: float | None
    record: StepRecord

    @property
    def exemplars(self) -> int:
        """Clips of old classes that were kept for it."""
        return sum(map(len, self.record.exemplars.values()))


def write_run_page(run: RunFolder, result: Evaluation) -> Path:
    """Write the page of a finished run into its folder, one for each split, and return its path."""
    path = run.path / ("report.html" if result.split == "test" else f"report-{result.split}.html")
    write_text(path, run_page(run, result))
    return path


def run_page(run: RunFolder, result: Evaluation) -> str:
    """The page of a finished run.

    Args:
        run: for what training recorded: losses, exemplars, time, circumstances.
        result: its numbers, of test or validation clips.
    """
    records = [run.record(step) for step in range(len(result.step_sizes))]
    tasks = Protocol(run.facts.classes, run.facts.step_sizes, run.facts.memory).tasks
    classes = _classes(result, tasks)
    ranked = sorted(classes, key=lambda one: (one.now, one.learned, one.number))
    return render(
        "run.html",
        title=title(result),
        result=result,
        story=story(result),
        numbers=_numbers(result),
        charts=curves.outcome_charts(result),
        training=curves.training_charts(records),
        steps=_steps(result, tasks, records),
        matrix=_matrix(result),
        answers=_answers(result, tasks),
        confusion=_confusion(result),
        confused=most_confused(result.confusion, result.classes, MOST_CONFUSED),
        classes=classes,
        many_classes=len(classes) > MANY_CLASSES,
        worst=ranked[:ENDS],
        best=ranked[: -ENDS - 1 : -1],
        split_words=SPLIT_WORDS[result.split],
        percent=percent,
        signed=signed,
        seconds=seconds,
        label=label,
        facts=_facts(run, records),
        config=to_toml(run.config),
        definitions=DEFINITIONS,
        selection=SELECTION[result.select],
    )


def _numbers(result: Evaluation) -> list[Number]:
    guesses = chances(result)
    steps = len(guesses)
    numbers = [
        Number(
            "Mean accuracy",
            percent(result.mean_accuracy),
            "%",
            f"averaged over {'the step' if steps == 1 else f'steps 1 to {steps}'}; "
            f"guessing {percent(sum(guesses) / steps)} %",
        ),
        Number(
            "Last accuracy",
            percent(result.last_accuracy),
            "%",
            f"at the end, among all {len(result.classes)} classes; guessing {percent(guesses[-1])} %",
        ),
    ]
    if result.average_forgetting is not None and result.backward_transfer is not None:
        numbers += [
            Number(
                "Average forgetting",
                signed(result.average_forgetting),
                "points",
                "how far old classes are below their best, averaged over steps; 0 is none",
            ),
            Number(
                "Backward transfer",
                signed(result.backward_transfer),
                "points",
                "change of old classes from when they were learned to the end; below 0 is loss",
            ),
        ]
    return numbers


def _steps(result: Evaluation, tasks: Sequence[range], records: Sequence[StepRecord]) -> list[StepRow]:
    return [
        StepRow(
            number=step + 1,
            classes=[result.classes[column] for column in task],
            seen=task.stop,
            chance=1 / task.stop,
            accuracy=result.accuracy[step],
            forgetting=result.forgetting[step],
            record=records[step],
        )
        for step, task in enumerate(tasks)
    ]


def _classes(result: Evaluation, tasks: Sequence[range]) -> list[ClassRow]:
    return [
        ClassRow(
            name=result.classes[column],
            number=column,
            step=step + 1,
            clips=sum(result.confusion[column]),
            learned=result.per_class_learned[result.classes[column]],
            now=result.per_class[result.classes[column]],
        )
        for step, task in enumerate(tasks)
        for column in task
    ]


def _matrix(result: Evaluation) -> HeatMap:
    steps = len(result.matrix)
    rows = [
        HeatRow(
            f"after step {step + 1}",
            [heat_cell(percent(value), value, own=of == step) for of, value in enumerate(row)]
            + [EMPTY_CELL] * (steps - len(row)),
        )
        for step, row in enumerate(result.matrix)
    ]
    names = [f"step {of + 1}" for of in range(steps)]
    return HeatMap("Accuracy in percent on the classes that came with each step", "", names, rows)


def _answers(result: Evaluation, tasks: Sequence[range]) -> HeatMap:
    rows = [
        HeatRow(
            f"of step {step + 1}",
            [heat_cell(percent(share), share, own=other == step) for other, share in enumerate(shares)],
        )
        for step, shares in enumerate(step_confusion(result.confusion, tasks))
    ]
    names = [f"step {other + 1}" for other in range(len(tasks))]
    return HeatMap("Share of clips, in percent, that are taken for a class of each step", "", names, rows)


def _confusion(result: Evaluation) -> HeatMap:
    rows = []
    for column, counts in enumerate(result.confusion):
        total = sum(counts)
        cells = [
            heat_cell(str(clips) if clips else "", clips / total, own=other == column)
            for other, clips in enumerate(counts)
        ]
        rows.append(HeatRow(label(result.classes[column], column), cells))
    names = [str(column + 1) for column in range(len(rows))]
    return HeatMap("Clips of each class (row) by the class they were taken for (column)", "", names, rows)


def _facts(run: RunFolder, records: Sequence[StepRecord]) -> dict[str, str]:
    made = run.facts.environment
    device = made.device if made.device != "cpu" else "none used"
    facts = {
        "method": f"{run.config.method}, fidelity {run.config.fidelity}",
        "tokens": f"{', '.join(run.facts.caches)} (fingerprint {run.facts.cache_fingerprint[:16]})",
        "precision": f"{run.config.training.precision}; products of the attention in {made.products}",
        "graphics card": device,
        "processor": f"{made.processor}, {made.cores} cores, {made.threads} threads",
        "system": made.platform,
        "software": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "training time": seconds(sum(record.seconds for record in records)),
        "peak memory": f"{max(record.peak_memory.host_bytes for record in records) / GIB:.1f} GiB",
    }
    if made.git_revision is not None:
        facts["git revision"] = made.git_revision + (", with changes" if made.git_dirty else "")
    on_device = [one.peak_memory.device_bytes for one in records if one.peak_memory.device_bytes is not None]
    if on_device:
        facts["peak device memory"] = f"{max(on_device) / GIB:.1f} GiB"
    return facts


def seconds(count: float) -> str:
    """A duration as people say it."""
    if count < 100:
        return f"{count:.1f} s"
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
