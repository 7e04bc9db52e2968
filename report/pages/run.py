"""The page of one run, `report.html`: its numbers, charts, matrices, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avcil.files import write_text
from avcil.report.pages import curves
from avcil.report.pages.page import HeatMap, Number, heat_map, label, render
from avcil.report.words import SELECTION, SPLIT_WORDS, byte_size, chances, percent, signed, story, title
from avcil.train.config import to_toml
from avcil.train.protocol import Protocol
from avcil.train.record.metrics import DEFINITIONS, most_confused, step_confusion
from avcil.train.record.records import StepRecord
from avcil.train.record.results import MOST_CONFUSED, Results
from avcil.train.record.run_folder import Run

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
    """A step in the table of steps and in the list of classes; `seen` counts the classes up to it."""

    number: int
    classes: Sequence[str]
    seen: int
    record: StepRecord

    @property
    def exemplars(self) -> int:
        """Clips of old classes that were kept for it."""
        return sum(map(len, self.record.exemplars.values()))


def write_run_page(run: Run, result: Results) -> Path:
    """Write the page of a finished run into its folder, one for each split, and return its path."""
    path = run.path / ("report.html" if result.split == "test" else f"report-{result.split}.html")
    write_text(path, run_page(run, result))
    return path


def run_page(run: Run, result: Results) -> str:
    """The page of a finished run.

    Args:
        run: for what training recorded: losses, exemplars, time, circumstances.
        result: its numbers, of test or validation clips.
    """
    records = [run.record(step) for step in range(len(result.step_sizes))]
    tasks = Protocol(run.facts.classes, run.facts.step_sizes, run.facts.memory).tasks
    names = [f"step {step}" for step in range(1, len(tasks) + 1)]
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
        steps=[
            StepRow(step, result.classes[task.start : task.stop], task.stop, record)
            for step, (task, record) in enumerate(zip(tasks, records, strict=True), start=1)
        ],
        chances=chances(result),
        matrix=_matrix(result, names),
        answers=_answers(result, tasks, names),
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
        byte_size=byte_size,
        label=label,
        facts=_facts(run, records),
        config=to_toml(run.config),
        definitions=DEFINITIONS,
        selection=SELECTION[result.select],
    )


def _numbers(result: Results) -> list[Number]:
    guesses = chances(result)
    steps = "the step" if len(guesses) == 1 else f"steps 1 to {len(guesses)}"
    mean = f"averaged over {steps}; guessing {percent(sum(guesses) / len(guesses))} %"
    last = f"at the end, among all {len(result.classes)} classes; guessing {percent(guesses[-1])} %"
    numbers = [
        Number("Mean accuracy", percent(result.mean_accuracy), "%", mean),
        Number("Last accuracy", percent(result.last_accuracy), "%", last),
    ]
    if result.average_forgetting is not None and result.backward_transfer is not None:
        lost = "how far old classes are below their best, averaged over steps; 0 is none"
        change = "change of old classes from when they were learned to the end; below 0 is loss"
        numbers += [
            Number("Average forgetting", signed(result.average_forgetting), "points", lost),
            Number("Backward transfer", signed(result.backward_transfer), "points", change),
        ]
    return numbers


def _classes(result: Results, tasks: Sequence[range]) -> list[ClassRow]:
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


def _matrix(result: Results, steps: Sequence[str]) -> HeatMap:
    title = "Accuracy in percent on the classes that came with each step"
    return heat_map(title, steps, [f"after {step}" for step in steps], result.matrix)


def _answers(result: Results, tasks: Sequence[range], steps: Sequence[str]) -> HeatMap:
    title = "Share of clips, in percent, that are taken for a class of each step"
    return heat_map(title, steps, [f"of {step}" for step in steps], step_confusion(result.confusion, tasks))


def _confusion(result: Results) -> HeatMap:
    return heat_map(
        "Clips of each class (row) by the class they were taken for (column)",
        [str(number) for number in range(1, len(result.classes) + 1)],
        [label(name, column) for column, name in enumerate(result.classes)],
        [[clips / sum(counts) for clips in counts] for counts in result.confusion],
        [[str(clips) if clips else "" for clips in counts] for counts in result.confusion],
    )


def _facts(run: Run, records: Sequence[StepRecord]) -> dict[str, str]:
    made = run.facts.environment
    device = made.device if made.device != "cpu" else "none used"
    facts = {
        "method": f"{run.config.method.name}, fidelity {run.config.fidelity}",
        "tokens": f"{', '.join(run.facts.caches)} (fingerprint {run.facts.cache_fingerprint[:16]})",
        "precision": f"{run.config.training.precision}; products of the attention in {made.products}",
        "graphics card": device,
        "processor": f"{made.processor}, {made.cores} cores, {made.threads} threads",
        "system": made.platform,
        "software": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "kept at the end": f"{byte_size(records[-1].exemplar_bytes)} of exemplars, "
        f"{byte_size(records[-1].head_bytes)} by the head, beside the network",
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
    """A duration in words."""
    if count < 100:
        return f"{count:.1f} s"
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
