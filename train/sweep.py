"""Sweeps over seeds: the names and configurations of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from avcil.errors import ConfigError
from avcil.train.config import RunConfig


def parse_seeds(text: str, option: str) -> tuple[int, ...]:
    """Seeds from `42,43,44`, as `option` was given them.

    Raises:
        ConfigError: something else, a negative number, or one that stands twice.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r}; give whole numbers like 42,43,44") from None
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{option} {text!r}; give numbers from 0 upwards, each of them once")
    return seeds


def sweep(config: RunConfig, seeds: Sequence[int], order_seeds: Sequence[int]) -> dict[str, RunConfig]:
    """The runs of a sweep by folder name: every order of the classes with every seed of training.

    Args:
        config: what all of them share.
        seeds: of training; without any, that of `config`.
        order_seeds: of the classes' order; without any, the order of `config`.
    """
    if not order_seeds:
        return {f"seed-{seed}": _seeded(config, seed) for seed in seeds}
    return {
        f"order-{order}-seed-{seed}": _seeded(
            replace(config, protocol=replace(config.protocol, order="shuffled", order_seed=order)), seed
        )
        for order in order_seeds
        for seed in seeds or (config.training.seed,)
    }


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    return replace(config, training=replace(config.training, seed=seed))
