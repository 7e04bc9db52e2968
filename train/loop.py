"""The fitting of one step: batches, updates, validation, choice of the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import tee

import torch
from torch import Tensor

from avcil.errors import RunError
from avcil.train.config import TrainingConfig
from avcil.train.draws import Draws
from avcil.train.methods.method import AttentionObjective, Batch, Objective, StepContext
from avcil.train.record.records import EpochRecord
from avcil.train.tokens.batches import StepClips, TokenBatch, joint_batches


@dataclass(frozen=True)
class FittedStep:
    """The outcome of a step; the student carries the weights of `best_epoch`, -1 when nothing was fitted."""

    epochs: list[EpochRecord]
    best_epoch: int


NOTHING_FITTED = FittedStep([], -1)


def fit_step(
    context: StepContext,
    objective: Objective | AttentionObjective,
    batches: Callable[[int], Iterator[Batch]],
    validate: Callable[[], float] | None,
    on_epoch: Callable[[int, EpochRecord], None],
) -> FittedStep:
    """Fit the student in place with a new Adam and leave it at the selected epoch.

    Adam's weight decay is the coupled L2 of the published program. The first epoch with the highest
    validation accuracy is selected, or the last one when there is no `validate`.

    Args:
        context: the step; its student is changed.
        objective: the loss of a batch, from the method's `prepare`.
        batches: the batches of an epoch.
        validate: the student's accuracy as it is.
        on_epoch: called after every epoch.

    Raises:
        RunError: a loss is no longer finite.
    """
    student, config = context.student, context.config.training
    objective, teacher = (
        (objective.loss, objective.teacher)
        if isinstance(objective, AttentionObjective)
        else (objective, None)
    )
    optimiser = torch.optim.Adam(
        [parameter for parameter in student.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    records: list[EpochRecord] = []
    best_epoch, best_accuracy = config.epochs - 1, -1.0
    best_weights: dict[str, Tensor] = {}
    student_is_teacher = context.teacher is not None
    for epoch in range(config.epochs):
        sums: dict[str, Tensor] = {}
        updates = 0
        for batch, tokens in _with_tokens(batches(epoch), context.current, context.exemplars, student.dtype):
            output = student(
                tokens.audio, tokens.visual, None if teacher is None else teacher[batch.exemplars]
            )
            terms = objective(output, replace(batch, student_is_teacher=student_is_teacher))
            loss = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            student_is_teacher = False
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            updates += 1
        means = {name: float(value) / updates for name, value in sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise RunError(
                    f"the {name.replace('_', ' ')} term became {mean} in epoch {epoch + 1}; "
                    "lower training.learning_rate or the term's weight"
                )
        val_accuracy = None if validate is None else validate()
        records.append(EpochRecord(sum(means.values()), means, val_accuracy))
        on_epoch(epoch, records[-1])
        if val_accuracy is not None and val_accuracy > best_accuracy:
            best_epoch, best_accuracy = epoch, val_accuracy
            best_weights = {name: value.clone() for name, value in student.state_dict().items()}
    if best_weights:
        student.load_state_dict(best_weights)
    return FittedStep(records, best_epoch)


def epoch_batches(
    draws: Draws, step: int, epoch: int, current: StepClips, exemplars: StepClips, config: TrainingConfig
) -> Iterator[Batch]:
    """The batches of one epoch.

    The current clips drive the epoch; a last incomplete batch is dropped. Every batch takes the next chunk
    of exemplars along, and the chunks come round again in the same order while the epoch lasts.
    """
    size = min(config.batch, len(current))
    order = draws.order(step, epoch, len(current), "current").to(current.labels.device)
    chunks: list[Tensor] = [order.new_empty(0)]
    if len(exemplars):
        exemplar_size = min(config.exemplar_batch, len(exemplars))
        exemplar_order = draws.order(step, epoch, len(exemplars), "exemplars").to(order.device)
        whole = len(exemplars) // exemplar_size * exemplar_size
        chunks = list(torch.split(exemplar_order[:whole], exemplar_size))
    for k in range(len(current) // size):
        rows, exemplar_rows = order[k * size : (k + 1) * size], chunks[k % len(chunks)]
        yield Batch(rows, exemplar_rows, torch.cat([current.labels[rows], exemplars.labels[exemplar_rows]]))


def _with_tokens(
    batches: Iterator[Batch], current: StepClips, exemplars: StepClips, dtype: torch.dtype
) -> Iterator[tuple[Batch, TokenBatch]]:
    """Every batch with its tokens, which are there until the next batch."""
    sets = [current.tokens, exemplars.tokens] if len(exemplars) else [current.tokens]
    ahead, batches = tee(batches)
    orders = ([batch.current, batch.exemplars][: len(sets)] for batch in ahead)
    tokens = joint_batches(sets, orders, dtype)
    return ((batch, some) for some, batch in zip(tokens, batches, strict=True))
