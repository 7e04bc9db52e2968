"""The pages of a run and of a comparison, opened in a real browser: labels may hold anything."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.browser import Browser, browser, find_browser
from support.command import Outcome
from support.odd_run import ODD_LABELS, odd_run

from avcil.report.pages.run import write_run_page
from avcil.report.words import percent
from avcil.train.record.evaluation import evaluate_run

Command = Callable[..., Outcome]
PHONE = 390


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two methods, one of them with its page, the other with a single step."""
    folder = tmp_path_factory.mktemp("odd")
    run = odd_run(folder)
    write_run_page(run, evaluate_run(run))
    single = odd_run(folder, steps=1, method="upper-bound", select="last")
    write_run_page(single, evaluate_run(single))
    odd_run(folder, method="finetune")
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    with browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def pages(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/report.html"))


def test_labels_are_shown_and_never_obeyed(folder: Path, tab: Browser) -> None:
    tab.open(folder / "run-avcil-3-best_val" / "report.html", 1200)
    assert tab.evaluate("document.title").endswith("mean accuracy")
    assert tab.evaluate("document.querySelectorAll('script, main img, main b b').length") == 0
    shown = tab.evaluate("[...document.querySelectorAll('.classes bdi')].map(e => e.textContent)")
    assert shown == list(ODD_LABELS)
    ids = tab.evaluate("[...document.querySelectorAll('.ids dd bdi')].map(e => e.textContent)")
    assert ids and all(any(clip_id.startswith(label) for label in ODD_LABELS) for clip_id in ids)


def test_the_headline_numbers_are_on_the_page(folder: Path, tab: Browser) -> None:
    path = folder / "run-avcil-3-best_val"
    result = evaluate_run(odd_run(folder))
    tab.open(path / "report.html", 1200)
    tiles = tab.evaluate("[...document.querySelectorAll('.big')].map(e => e.innerText.replace('−', '-'))")
    numbers = (
        result.mean_accuracy,
        result.last_accuracy,
        result.average_forgetting,
        result.backward_transfer,
    )
    units = ("%", "%", "points", "points")
    assert tiles == [f"{percent(number)}{unit}" for number, unit in zip(numbers, units, strict=True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_requested_and_nothing_complains(pages: list[Path], tab: Browser, scheme: str) -> None:
    assert len(pages) == 2
    for page in pages:
        tab.open(page, 1200, scheme=scheme)
        assert tab.requests() == [page.resolve().as_uri()]
        assert tab.complaints() == []
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 200) == (scheme == "dark")


def test_a_single_step_is_not_compared_with_others(folder: Path, tab: Browser) -> None:
    tab.open(folder / "run-upper-bound-1-last" / "report.html", 1200)
    assert tab.evaluate("document.querySelector('#matrix')") is None
    assert tab.evaluate("document.querySelectorAll('nav a').length") == 7
    links = "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    assert tab.evaluate(links) is True
    assert tab.evaluate("document.querySelectorAll('.chart')[0].querySelectorAll('circle').length") == 2


def test_a_phone_scrolls_no_page_sideways(pages: list[Path], tab: Browser) -> None:
    for page in pages:
        tab.open(page, PHONE)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("innerWidth") == PHONE
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE


def test_a_comparison_is_a_page_too(folder: Path, tab: Browser, avcil: Command, tmp_path: Path) -> None:
    runs = [folder / "run-avcil-3-best_val", folder / "run-finetune-3-best_val"]
    page = tmp_path / "compare.html"
    done = avcil("compare", *runs, "--baseline", "finetune", "--out", page)
    assert done.code == 0, done.err
    tab.open(page, PHONE)
    assert tab.complaints() == [] and len(tab.requests()) == 1
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE
    assert tab.evaluate("[...document.querySelectorAll('.chart .label')].map(e => e.textContent).sort()") == [
        "AV-CIL",
        "fine-tuning",
    ]
    assert tab.evaluate("[...document.querySelectorAll('.chart .tag')].map(e => e.textContent).sort()") == [
        "AV-CIL",
        "fine-tuning",
    ]
    told = tab.evaluate("[...document.querySelectorAll('.chart circle title')].map(e => e.textContent)")
    assert len(told) == 2 and all(" s a step, forgetting " in one for one in told)
    assert any(one.startswith("fine-tuning: mean accuracy ") and " 0 B kept" in one for one in told)
