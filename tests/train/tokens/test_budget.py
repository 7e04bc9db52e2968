"""Who gets memory, and how much there is."""

from pathlib import Path

import pytest

from avcil.train.tokens.budget import (
    WORKING_BYTES,
    Budget,
    Demand,
    TokenPlacement,
    available_ram,
    divide,
    place_sets,
)

CURRENT, EXEMPLARS = Demand("current clips", 100, 10, 8), Demand("exemplars", 20, 10, 4)
VALIDATION = Demand("validation clips", 60, 10, 2)
SETS = (CURRENT, EXEMPLARS, VALIDATION)


def locations(budget: Budget, on_gpu: bool = False) -> list[str]:
    return [one.location for one in place_sets(SETS, budget, on_gpu=on_gpu)]


@pytest.mark.parametrize(
    ("host_bytes", "expected"),
    [
        (1800, ["ram", "ram", "ram"]),
        (1799, ["ram", "ram", "streamed"]),
        (1240, ["ram", "ram", "streamed"]),  # 1000 + 200 + two batches of validation clips
        (1239, ["ram", "streamed", "streamed"]),
        (1119, ["streamed", "ram", "ram"]),
        (0, ["streamed"] * 3),
    ],
)
def test_those_touched_most_come_first(host_bytes: int, expected: list[str]) -> None:
    assert locations(Budget(0, host_bytes)) == expected


def test_a_gpu_takes_what_fits_and_fetches_the_rest_from_ram() -> None:
    assert locations(Budget(1800, 0), on_gpu=True) == ["device"] * 3
    assert locations(Budget(1240, 600), on_gpu=True) == ["device", "device", "pinned"]
    assert locations(Budget(1240, 599), on_gpu=True) == ["device", "device", "streamed"]


def test_a_vs100_step_fits_a_24_gb_gpu_with_int8() -> None:
    clip = 8 * 196 * (768 + 2) + 4 * 768  # int8 and a float16 scale for every token; the audio vector
    sets = [Demand("x", 5000, clip, 256), Demand("x", 1500, clip, 128), Demand("x", 5000, clip, 64)]
    assert [one.location for one in place_sets(sets, divide(23_500_000_000, 0), on_gpu=True)] == [
        "device"
    ] * 3


@pytest.mark.parametrize("card_gb", [2, 8, 12, 16, 24, 80])
def test_tokens_and_projections_share_what_is_free_of_a_gpu(card_gb: int) -> None:
    free = int(0.95 * card_gb * 1e9)
    budget = divide(free, 100 * 10**9)
    assert budget.host_bytes == 60 * 10**9
    assert budget.device_bytes + budget.projection_bytes + WORKING_BYTES["cuda"] <= max(free, 3_200_000_000)
    expected = {2: (0, 0), 8: (44, 0), 12: (68, 13), 16: (91, 28), 24: (136, 59), 80: (456, 60)}[card_gb]
    assert (budget.device_bytes // 10**8, budget.projection_bytes // 10**8) == expected


@pytest.mark.parametrize("card_gb", [8, 16, 24])
def test_what_was_asked_for_is_kept_and_projections_take_the_rest(card_gb: int) -> None:
    free = int(0.95 * card_gb * 1e9)
    assert divide(free, 0, 2 * 10**9).device_bytes == 2 * 10**9
    assert divide(free, 0, 0).projection_bytes == min(6 * 10**9, free - WORKING_BYTES["cuda"])
    assert divide(free, 0, free).projection_bytes == 0


@pytest.mark.parametrize(
    ("free_gb", "tokens", "projections"), [(0.2, 0, 0), (1, 6, 0), (2, 12, 4), (64, 384, 6)]
)
def test_the_same_in_ram(free_gb: float, tokens: int, projections: int) -> None:
    budget = divide(None, int(free_gb * 1e9))
    assert (budget.device_bytes, budget.host_bytes // 10**8) == (0, tokens)
    assert budget.projection_bytes // 10**8 == projections


def test_a_plan_is_one_line() -> None:
    big = Demand("current clips", 5000, 2_400_000, 256), Demand("exemplars", 0, 2_400_000, 128)
    plan = TokenPlacement(place_sets(big, Budget(0, 16 * 10**9), on_gpu=False), "float16", 16 * 10**9)
    assert str(plan) == "tokens: 5000 current clips, 12.0 GB float16 in RAM (budget 16.0 GB)"
    plan = TokenPlacement(place_sets(SETS, Budget(0, 1300), on_gpu=False), "int8", 2_000_000_000)
    assert str(plan) == (
        "tokens: 100 current clips + 20 exemplars, 0.0012 MB int8 in RAM; "
        "60 validation clips, 0.0006 MB int8 streamed from the cache (budget 2.0 GB)"
    )


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable: 50 kB\n"}


def test_free_memory_is_that_of_the_machine(tmp_path: Path) -> None:
    files = {**MEMINFO, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
    assert available_ram(write(tmp_path, files)) == 50 * 1024


def test_free_memory_is_bounded_by_every_group_above(tmp_path: Path) -> None:
    files = {**MEMINFO, "proc/self/cgroup": "0::/slice/job\n"}
    for group, limit in (("", 9000), ("slice/", 8000), ("slice/job/", 20000)):
        files[f"sys/fs/cgroup/{group}memory.max"] = f"{limit}\n"
        files[f"sys/fs/cgroup/{group}memory.current"] = "5000\n"
        files[f"sys/fs/cgroup/{group}memory.stat"] = "anon 4000\ninactive_file 700\n"
    assert available_ram(write(tmp_path, files)) == 8000 - 5000 + 700


def test_free_memory_under_the_older_groups(tmp_path: Path) -> None:
    files = {
        **MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/job\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "6000\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000\n",
        "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 10\n",
    }
    assert available_ram(write(tmp_path, files)) == 5010


def test_free_memory_where_nothing_is_told(tmp_path: Path) -> None:
    assert available_ram(tmp_path) > 0
