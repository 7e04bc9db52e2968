"""What a run did and found in plain sentences, for people who do not know the field, and numbers in words."""

from __future__ import annotations

import math

from avcil.train.record.results import Results

MODALITY_WORDS = {
    "audio-visual": "by sound and picture together",
    "audio": "by sound alone",
    "visual": "by picture alone",
}
SPLIT_WORDS = {"test": "test clips", "val": "validation clips"}
SELECTION = {
    "best_val": "each step keeps its epoch with the best validation accuracy on all classes seen; that set "
    "holds clips of old classes beyond the memory",
    "last": "each step keeps its last epoch",
}
TERM_WORDS = {  # what a loss term asks for
    "cross_entropy": "Name the class",
    "nca": "Name the class",
    "distillation": "Stay close to the network of the step before",
    "instance": "Bring sound and picture of a clip together",
    "class": "Bring sounds and pictures of a class together",
    "spatial": "Attend where the step before attended",
    "temporal": "Attend when the step before attended",
}
EVEN = 0.0005  # forgetting that rounds to 0.0 points


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, a dash when there is none; never -0.0."""
    return "-" if fraction is None else f"{round(100 * fraction, 1) + 0.0:.1f}"


def signed(fraction: float | None) -> str:
    """`percent` for pages, with real dashes and minus signs."""
    return "–" if fraction is None else percent(fraction).replace("-", "\N{MINUS SIGN}")


def whole(fraction: float) -> str:
    """`signed` without a decimal."""
    return f"{round(100 * fraction)}".replace("-", "\N{MINUS SIGN}")


def in_mb(n_bytes: float) -> str:
    """Bytes in MB (1e6), without the unit."""
    return short_number(n_bytes / 1e6)


def short_number(value: float) -> str:
    """Three significant digits and at most three decimals, never as a power of ten."""
    value = float(f"{value:.3g}")
    if 0 < value < 0.0005:
        return "<0.001"
    decimals = 2 - math.floor(math.log10(value)) if value else 0
    return f"{value:.{min(max(decimals, 0), 3)}f}"


def byte_size(n_bytes: float) -> str:
    """Bytes with the unit that suits them: kB is 1e3, MB 1e6, GB 1e9."""
    n_bytes = float(f"{n_bytes:.3g}")
    power = next((k for k in (3, 2, 1) if n_bytes >= 1000**k), 0)
    return (
        f"{short_number(n_bytes / 1000**power)} {('', 'k', 'M', 'G')[power]}B"
        if power
        else f"{n_bytes:.0f} B"
    )


def title(result: Results) -> str:
    """Method and modality as people call them."""
    return f"{result.method_title}, {result.modality}"


def chances(result: Results) -> list[float]:
    """After every step, the accuracy of a guess among the classes seen."""
    return [1 / sum(result.step_sizes[: step + 1]) for step in range(len(result.step_sizes))]


def story(result: Results) -> list[str]:
    """What was learned, how much of it is left, and what guessing would give."""
    return [_task(result), _regime(result), _outcome(result), *_forgetting(result)]


def _task(result: Results) -> str:
    sizes, learner = result.step_sizes, "network" if result.epochs else "classifier"
    if len(sizes) == 1:
        course = "all at once"
    elif len(set(sizes)) == 1:
        course = f"not all at once but in {len(sizes)} steps, {_classes(sizes[0])} at a time"
    else:
        course = f"not all at once but in {len(sizes)} steps of {_listed(sizes)} classes"
    return (
        f"A {learner} learned to tell {_classes(len(result.classes))} of video apart "
        f"{MODALITY_WORDS[result.modality]}, {course}."
    )


def _regime(result: Results) -> str:
    if len(result.step_sizes) == 1:
        return "It saw all training clips."
    if result.old_clips == "all":
        return (
            "At every step a new one was trained on all clips of all classes so far: this shows what could "
            "be reached if nothing ever had to be remembered."
        )
    if result.old_clips == "exemplars":
        return (
            "At each step it was shown the clips of the new classes and, of the old ones, only a memory of "
            f"{result.memory} clips in total (the exemplars)."
        )
    return "At each step it was shown the clips of the new classes only, and none of the old ones."


def _outcome(result: Results) -> str:
    clips = f"{result.clips} {SPLIT_WORDS[result.split]}"
    chose = result.split == "val" and result.select == "best_val" and result.epochs
    aside = "that chose which epoch to keep" if chose else "that it never trained on"
    return (
        f"In the end it names the right one of {_classes(len(result.classes))} for "
        f"{percent(result.last_accuracy)} % of {clips} {aside}; guessing would be right for "
        f"{percent(1 / len(result.classes))} %."
    )


def _forgetting(result: Results) -> list[str]:
    lost = result.average_forgetting
    if lost is None:
        return []
    if abs(lost) < EVEN:
        return ["On average, later steps cost the classes of earlier ones nothing."]
    if lost < 0:
        return [
            "On average, the accuracy on the classes of earlier steps even rose "
            f"{percent(-lost)} percentage points above its earlier best while new ones were learned."
        ]
    return [
        f"On average, the accuracy on the classes of earlier steps fell {percent(lost)} percentage points "
        "below its earlier best while new ones were learned."
    ]


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def _listed(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
