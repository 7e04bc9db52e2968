"""What a process may use: affinity, and quotas of control groups in a made-up `/proc` and `/sys`."""

import os
from pathlib import Path

import pytest

from avcil.machine import usable_cores


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path) == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 7}, raising=False)
    assert usable_cores(tmp_path) == 2


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"job/step": "max 100000", "job": "max 100000"}, 64),
        ({"job/step": "max 100000", "job": "400000 100000"}, 4),
        ({"job/step": "250000 100000", "job": "400000 100000"}, 3),
        ({"job/step": "1000 100000"}, 1),
        ({"": "800000 100000"}, 8),
        ({"job": "nonsense"}, 64),
    ],
)
def test_the_tightest_quota_above_the_process_counts(
    tmp_path: Path, limits: dict[str, str], cores: int
) -> None:
    files = {f"sys/fs/cgroup/{group}/cpu.max": text + "\n" for group, text in limits.items()}
    assert usable_cores(write(tmp_path, {"proc/self/cgroup": "0::/job/step\n", **files})) == cores


@pytest.mark.parametrize(("quota", "cores"), [("600000", 6), ("-1", 64)])
def test_quotas_of_the_first_version_count(tmp_path: Path, quota: str, cores: int) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/other\n3:cpu,cpuacct:/job\n0::/\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": f"{quota}\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/other/cpu.cfs_quota_us": "100000\n",
    }
    assert usable_cores(write(tmp_path, files)) == cores
