"""Splits: how the clips of a class are divided among train, val and test."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from avcil.errors import ManifestError

SPLITS = ("train", "val", "test")
Item = TypeVar("Item")


@dataclass(frozen=True)
class SplitRule:
    """Shares of train, val and test: clip counts per class, or fractions that sum to 1.

    With counts, a class must have at least as many clips as they sum to, and clips beyond are left out. With
    fractions, val and test get their share rounded to the nearest number, at least one where the share is not
    zero and the class has three clips or more, and train the rest.
    """

    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    are_counts: bool = False
    seed: int = 0

    @classmethod
    def parse(cls, text: str, *, seed: int = 0) -> SplitRule:
        """Read `16/4/4` (counts) or `0.8/0.1/0.1` (fractions), in the order train/val/test.

        Raises `ManifestError` for anything else, and where train would get nothing.
        """
        parts = text.split("/")
        are_counts = all(part.strip().isdecimal() for part in parts)
        try:
            shares = tuple(float(part) for part in parts)
        except ValueError:
            shares = ()
        usable = (
            len(shares) == 3
            and all(math.isfinite(share) and share >= 0 for share in shares)
            and shares[0] > 0
        )
        if not usable or not (are_counts or abs(sum(shares) - 1) < 1e-3):
            raise ManifestError(
                f"split {text!r}: give train/val/test as clip counts per class, like 16/4/4, or as "
                "fractions that sum to 1, like 0.8/0.1/0.1, with train above 0"
            )
        return cls((shares[0], shares[1], shares[2]), are_counts, seed)

    def assign(self, label: str, items: Sequence[Item]) -> list[tuple[Item, str]]:
        """Pair the items of one class with their split, in the order given.

        The draw depends on the seed, the label and the number of items only, so that classes do not influence
        each other. Raises `ManifestError` where counts ask for more clips than there are.
        """
        if not items:
            return []
        counts = self._counts(label, len(items))
        order = list(range(len(items)))
        random.Random(f"{self.seed}:{label}").shuffle(order)
        names = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
        split_of = dict(zip(order, names, strict=False))  # clips beyond the counts get none
        return [(item, split_of[i]) for i, item in enumerate(items) if i in split_of]

    def _counts(self, label: str, n_items: int) -> tuple[int, int, int]:
        if self.are_counts:
            train, val, test = (int(share) for share in self.shares)
            if train + val + test > n_items:
                raise ManifestError(
                    f"class {label!r} has {n_items} clips, fewer than the {train + val + test} of split "
                    f"{train}/{val}/{test}; lower the counts or use fractions"
                )
            return train, val, test
        val, test = (
            max(int(share > 0 and n_items >= 3), math.floor(share * n_items + 0.5))
            for share in self.shares[1:]
        )
        while val + test >= n_items:  # a tiny class with a large share: train keeps one clip
            val, test = (val - 1, test) if val >= test else (val, test - 1)
        return n_items - val - test, val, test
