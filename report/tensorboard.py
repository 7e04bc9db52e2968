"""A run's scalars for TensorBoard, whose package is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avcil.errors import ConfigError
from avcil.train.record.records import StepRecord
from avcil.train.run import TrainProgress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ScalarWriter:
    """Writes losses and validation accuracy over epochs, counted through all steps, and test accuracy.

    The folder is made with the first scalar, because training may yet refuse to begin. What an earlier
    process wrote of that epoch and later ones, before it was killed, no longer counts.
    """

    def __init__(self, folder: Path, make: type[SummaryWriter]) -> None:
        self._folder, self._make = folder, make
        self._writer: SummaryWriter | None = None

    def epoch(self, now: TrainProgress) -> None:
        """Add the scalars of a finished epoch."""
        position = now.step * now.epochs + now.epoch
        writer = self._opened(position)
        writer.add_scalar("loss/total", now.record.loss, position)
        for name, value in now.record.terms.items():
            writer.add_scalar(f"loss/{name}", value, position)
        if now.record.val_accuracy is not None:
            writer.add_scalar("accuracy/validation", now.record.val_accuracy, position)

    def step(self, record: StepRecord) -> None:
        """Add the test accuracy of a finished step, over steps and not epochs; it may have had no epoch."""
        writer = self._opened(None)
        right = sum(p == y for p, y in zip(record.predicted, record.true, strict=True))
        writer.add_scalar("accuracy/test", right / len(record.true), record.step)
        writer.flush()

    def _opened(self, outdated_from: int | None) -> SummaryWriter:
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=outdated_from)
        return self._writer

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def scalars(folder: Path) -> Iterator[ScalarWriter]:
    """Write scalars below `folder`.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--tensorboard needs the package tensorboard; pip install 'avcil[tensorboard]'"
        ) from error
    with closing(ScalarWriter(folder, SummaryWriter)) as writer:
        yield writer
