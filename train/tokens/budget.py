"""The memory budget of a step: what is free, what tokens and projections may take, which sets stay where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Location = Literal["device", "pinned", "ram", "streamed"]
SHARE = 0.6  # of the memory that is free where training runs: what tokens may take
# What the projected tokens of a batch and of the teacher may take at most; the rest is computed again.
PROJECTION_BYTES = {"cpu": 600_000_000, "cuda": 6_000_000_000}
# What a step takes beside both: blocks of the attention (2.1 GB on a GPU where nothing is compiled), and for
# networks, Adam and clips on their way 1 GB of a GPU, 0.3 GB of RAM.
WORKING_BYTES = {"cpu": 310_000_000, "cuda": 3_200_000_000}
_WORDS: dict[Location, str] = {
    "device": "on the GPU",
    "pinned": "in pinned RAM",
    "ram": "in RAM",
    "streamed": "streamed from the cache",
}


@dataclass(frozen=True)
class Budget:
    """Bytes that a step may take beside what it works with.

    Attributes:
        device_bytes: for tokens on the GPU; 0 where there is none.
        host_bytes: for tokens in RAM.
        projection_bytes: for the projected tokens that the attention keeps, where training runs.
    """

    device_bytes: int
    host_bytes: int
    projection_bytes: int = 0


def divide(free_device: int | None, free_ram: int, asked_bytes: int | None = None) -> Budget:
    """Divide free memory: tokens come first, because to project a clip again costs less than to fetch it.

    Args:
        free_device: free bytes of the GPU, None without one.
        free_ram: free bytes of RAM.
        asked_bytes: what tokens may take where training runs; by default 60 % of what is free there.
    """
    on, free = ("cpu", free_ram) if free_device is None else ("cuda", free_device)
    left = max(0, free - WORKING_BYTES[on])
    tokens = min(int(SHARE * free), left) if asked_bytes is None else asked_bytes
    projections = min(PROJECTION_BYTES[on], max(0, left - tokens))
    if free_device is None:
        return Budget(0, tokens, projections)
    return Budget(tokens, int(SHARE * free_ram), projections)


@dataclass(frozen=True)
class Demand:
    """What a set of clips would take.

    Attributes:
        name: what the set is, in the plural, such as "exemplars".
        clips: how many.
        clip_bytes: of one clip as stored.
        batch: clips that are gathered at a time.
    """

    name: str
    clips: int
    clip_bytes: int
    batch: int

    @property
    def bytes(self) -> int:
        """Of the whole set."""
        return self.clips * self.clip_bytes

    @property
    def buffer_bytes(self) -> int:
        """Of two batches: one in use, one under way; what a set takes that is not resident."""
        return min(self.clips, 2 * self.batch) * self.clip_bytes


@dataclass(frozen=True)
class SetPlacement:
    """Where a set of clips stays."""

    demand: Demand
    location: Location


@dataclass(frozen=True)
class TokenPlacement:
    """Where the tokens of a step stay; as text, one line for people.

    Attributes:
        sets: every set of clips, those that are touched most first.
        dtype: of the visual tokens as stored, or what is held instead of them.
        budget_bytes: that they share on the device.
    """

    sets: tuple[SetPlacement, ...]
    dtype: str
    budget_bytes: int

    def __str__(self) -> str:
        parts = []
        for location, words in _WORDS.items():
            held = [one.demand for one in self.sets if one.location == location and one.demand.clips]
            if held:
                clips = " + ".join(f"{one.clips} {one.name}" for one in held)
                parts.append(f"{clips}, {_size(sum(one.bytes for one in held))} {self.dtype} {words}")
        return f"tokens: {'; '.join(parts)} (budget {_size(self.budget_bytes)})"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.3g} MB"


def place_sets(demands: Sequence[Demand], budget: Budget, *, on_gpu: bool) -> tuple[SetPlacement, ...]:
    """Give memory to the sets in their order: those that are touched most come first.

    A set that does not fit whole takes two batches. On a GPU it is kept in pinned RAM if it fits there.
    """
    device_left = budget.device_bytes if on_gpu else 0
    host_left = budget.host_bytes
    placements = []
    for k, demand in enumerate(demands):
        later = sum(one.buffer_bytes for one in demands[k + 1 :])
        if on_gpu and demand.bytes + later <= device_left:
            device_left -= demand.bytes
            placements.append(SetPlacement(demand, "device"))
            continue
        device_left -= demand.buffer_bytes
        if demand.bytes + later <= host_left:
            host_left -= demand.bytes
            placements.append(SetPlacement(demand, "pinned" if on_gpu else "ram"))
        else:
            host_left -= demand.buffer_bytes
            placements.append(SetPlacement(demand, "streamed"))
    return tuple(placements)


def available_ram(root: Path = Path("/")) -> int:
    """Bytes that this process can take before the machine swaps or its control group kills it.

    The kernel's own estimate, and what the limit of every group above the process leaves (cgroup v2, or v1);
    half of the machine where neither is told. `root` is where `/proc` and `/sys` are.
    """
    rooms = [_unused(folder) for folder in _memory_groups(root)]
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        rooms.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration):
        rooms.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(room for room in rooms if room is not None)


def _memory_groups(root: Path) -> list[Path]:
    """Folders of the control groups that bound this process; the namespace's own root among them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup/memory" if controllers else "sys/fs/cgroup")
        inner = Path(path.lstrip("/"))
        folders += [top / part for part in (inner, *inner.parents)]
    return folders


def _unused(group: Path) -> int | None:
    """Bytes below the group's limit, counting as free the file pages that the kernel would give back."""
    for limit_name, used_name, cached_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = int((group / limit_name).read_text(encoding="ascii"))  # "max" is no number
            used = int((group / used_name).read_text(encoding="ascii"))
            stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
            return max(0, limit - used + int(stat.get(cached_name, 0)))
        except (OSError, ValueError):
            continue
    return None
