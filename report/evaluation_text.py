"""Owns the numbers of one run as text for documents and programs: CSV, LaTeX, JSON; computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from avcil.report.labels import in_latex
from avcil.report.words import SPLIT_WORDS, percent, title
from avcil.train.record.metrics import DEFINITIONS
from avcil.train.record.results import Evaluation, to_json

SINGLE = ("mean_accuracy", "last_accuracy", "average_forgetting", "backward_transfer")


def comma_separated(result: Evaluation) -> str:
    """One number a line, as fractions: `measure,step,of,value`.

    `step` counts from 1. `of` is the step whose classes an `accuracy_of_step` is about, or the class; for
    `confusion`, in clips, the class and what it was taken for, in two columns.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["measure", "step", "of", "taken_for", "value"])
    last = len(result.step_sizes)
    for name in SINGLE:
        writer.writerow([name, "", "", "", getattr(result, name)])
    for step, (accuracy, forgetting) in enumerate(zip(result.accuracy, result.forgetting, strict=True), 1):
        writer.writerow(["accuracy", step, "", "", accuracy])
        writer.writerow(["forgetting", step, "", "", forgetting])
    for step, row in enumerate(result.matrix, 1):
        writer.writerows(["accuracy_of_step", step, of, "", value] for of, value in enumerate(row, 1))
    steps = [step for step, size in enumerate(result.step_sizes, 1) for _ in range(size)]
    for name, step in zip(result.classes, steps, strict=True):
        writer.writerow(["per_class_learned", step, name, "", result.per_class_learned[name]])
        writer.writerow(["per_class", last, name, "", result.per_class[name]])
    for name, counts in zip(result.classes, result.confusion, strict=True):
        for other, clips in zip(result.classes, counts, strict=True):
            if clips:
                writer.writerow(["confusion", last, name, other, clips])
    return file.getvalue()


def latex(result: Evaluation) -> str:
    r"""The accuracy matrix, A_t and F_t, with the rules of booktabs (`\usepackage{booktabs}`)."""
    steps = len(result.matrix)
    head = ["after step", *map(str, range(1, steps + 1)), "$A_t$", "$F_t$"]
    rows = [
        [
            str(step + 1),
            *map(percent, row),
            *[""] * (steps - len(row)),
            percent(result.accuracy[step]),
            percent(result.forgetting[step]),
        ]
        for step, row in enumerate(result.matrix)
    ]
    words = "; ".join(
        f"{name.replace('_', ' ')} {percent(getattr(result, name))} ({DEFINITIONS[name]})" for name in SINGLE
    )
    caption = in_latex(
        f"{title(result)}, {result.name}, {result.fidelity}: accuracy on the classes of each step, in "
        f"percent of {result.clips} {SPLIT_WORDS[result.split]}; {words}."
    )
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{r{'r' * steps}rr}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Evaluation], str]] = {
    "json": lambda result: to_json(result) + "\n",
    "csv": comma_separated,
    "latex": latex,
}
