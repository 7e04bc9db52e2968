"""What the machine lets this process use: its cores, the control groups that bound it, a user's name."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def name_the_user() -> None:
    """Give a user id that the system does not know, as in `docker --user 12345`, a name and a home folder.

    torch asks for the name when it is to train, for the folder of compiled kernels, and ends where there is
    none; huggingface_hub asks for the folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"uid-{os.getuid()}"
        os.environ.setdefault("HOME", tempfile.gettempdir())


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: of its affinity, and of the quota of every group above it, rounded up.

    A batch system's share of a machine is one or the other. `root` is where `/proc` and `/sys` are.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota(group) for group in control_groups("cpu", root))
    return max(1, min([own, *(quota for quota in quotas if quota is not None)]))


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of the control groups (v2, or v1) that bound this process, the namespace's root among them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = Path(path.lstrip("/"))
        yield from (top / part for part in (inner, *inner.parents))


def _quota(group: Path) -> int | None:
    """Cores that the group may keep busy, rounded up; None without a limit."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()  # "max" is no number
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii")
        except OSError:
            return None
    try:
        return -(-int(quota) // int(period)) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None
