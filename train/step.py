"""The course of one step: what is loaded, prepared, fitted, tested and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from avcil.train.draws import Draws
from avcil.train.loop import NOTHING_FITTED, epoch_batches, fit_step
from avcil.train.methods.exemplars import random_exemplars
from avcil.train.methods.head import Classifier
from avcil.train.methods.method import Method, StepContext
from avcil.train.network.inference import CLIPS_PER_PASS
from avcil.train.network.model import AudioVisualNetwork, NetworkShape
from avcil.train.plan import Plan
from avcil.train.protocol import ClipSet, Protocol, clip_set, exemplar_set
from avcil.train.record.records import EpochRecord, StepRecord
from avcil.train.record.run_folder import Run
from avcil.train.record.step_costs import StepMeter
from avcil.train.record.weights import save_step
from avcil.train.tokens.batches import StepClips
from avcil.train.tokens.budget import Budget, TokenPlacement
from avcil.train.tokens.loading import TokenSet, free_budget, load_once, load_tokens


def train_step(
    plan: Plan,
    run: Run,
    step: int,
    before: Classifier | None,
    draws: Draws,
    on_epoch: Callable[[int, EpochRecord], None],
    on_tokens: Callable[[TokenPlacement], None],
) -> Classifier:
    """Train, test and save step `step` of `run`, beginning with the network and the head of the step before.

    Returns:
        Those of the epoch that was selected.
    """
    meter = StepMeter(plan.device)
    protocol, training, method = plan.protocol, plan.config.training, plan.method
    seen = range(protocol.seen(step))
    memory = _memory_of_step(plan, run, step)
    current = clip_set(plan.clips.train, seen if method.sees_everything else protocol.tasks[step])
    beside = exemplar_set(memory)
    if method.replay == "joined":
        current, beside = current + beside, ClipSet((), ())
    selects = training.select == "best_val" and method.layer is not None
    validated = clip_set(plan.clips.val, seen) if selects else None
    with meter.stage("load"):
        budget = free_budget(plan.device, training.token_budget_gb)
        data, placement = _load(plan, current, beside, validated, budget)
    on_tokens(placement)
    student = _network_of_step(plan, step, before, draws)
    teacher = None if before is None or method.starts_fresh else before.network
    for network in filter(None, (student, teacher)):
        network.fused = plan.attention.within(budget.projection_bytes)
    context = StepContext(
        step=step,
        tasks=protocol.tasks[: step + 1],
        current=data.current,
        exemplars=data.exemplars,
        student=student,
        teacher=teacher,
        head=method.head(settings=plan.settings) if before is None else before.head,
        exemplars_per_class=protocol.exemplars_per_class(protocol.seen(step)),
        generator=draws.generator(step),
        config=plan.config,
        settings=plan.settings,
    )

    def validate(clips: StepClips) -> float:
        with meter.stage("validate"):
            return _accuracy(Classifier(student, context.head.while_training(context)), clips)

    with meter.stage("prepare"):
        objective = method.prepare(context)
    fitted, validation = NOTHING_FITTED, data.validation
    if objective is not None:
        with meter.stage("train"):
            fitted = fit_step(
                context,
                objective,
                lambda epoch: epoch_batches(draws, step, epoch, data.current, data.exemplars, training),
                None if validation is None else lambda: validate(validation),
                on_epoch,
            )
    with meter.stage("test"):
        test = clip_set(plan.clips.test, seen)
        tokens = load_once(plan.cache, test.ids, plan.needs, plan.device)
        classifier = _classifier(context)
        predicted = classifier.columns(tokens).tolist()
    chosen = _chosen(method, context, current.ids + beside.ids)
    save_step(
        run,
        classifier,
        StepRecord(
            step=step,
            train_clips=len(current),
            exemplars=_by_label(protocol, memory),
            kept=_by_label(protocol, chosen),
            exemplar_bytes=plan.clip_bytes * _clips_kept(plan, step, chosen),
            head_bytes=sum(tensor.nbytes for tensor in classifier.head.state().values()),
            best_epoch=fitted.best_epoch,
            epochs=fitted.epochs,
            predicted=predicted,
            true=list(test.columns),
            seconds=meter.seconds,
            stages=meter.stages,
            peak_memory=meter.peak_memory,
        ),
    )
    return classifier


@dataclass(frozen=True)
class _StepData:
    """What a step is fitted on."""

    current: StepClips
    exemplars: StepClips
    validation: StepClips | None


def _load(
    plan: Plan, current: ClipSet, exemplars: ClipSet, validation: ClipSet | None, budget: Budget
) -> tuple[_StepData, TokenPlacement]:
    """The sets share one budget, those touched most come first."""
    training = plan.config.training
    wanted = [("current clips", current, training.batch), ("exemplars", exemplars, training.exemplar_batch)]
    if validation is not None:
        wanted.append(("validation clips", validation, CLIPS_PER_PASS))
    sets = [TokenSet(name, clips.ids, batch) for name, clips, batch in wanted]
    loaded, placement = load_tokens(plan.cache, sets, plan.needs, plan.device, budget)
    clips = [
        StepClips(tokens, torch.tensor(one.columns, dtype=torch.long, device=plan.device))
        for tokens, (_, one, _) in zip(loaded, wanted, strict=True)
    ]
    return _StepData(clips[0], clips[1], clips[2] if validation is not None else None), placement


def _memory_of_step(plan: Plan, run: Run, step: int) -> dict[int, tuple[str, ...]]:
    """The exemplars that a step may replay: what the step before kept, or a draw that the seed decides."""
    if step == 0 or not plan.method.replays:
        return {}
    if plan.method.choose is None:
        return random_exemplars(plan.protocol, plan.clips.train, plan.config.training.seed, step)
    kept = run.record(step - 1).kept
    return {plan.protocol.classes.index(label): tuple(ids) for label, ids in kept.items()}


def _chosen(method: Method, context: StepContext, ids: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    if method.choose is None:
        return {}
    rows_by_class = enumerate(method.choose(context))
    return {column: tuple(ids[row] for row in rows.tolist()) for column, rows in rows_by_class}


def _clips_kept(plan: Plan, step: int, chosen: dict[int, tuple[str, ...]]) -> int:
    """How many clips of the classes seen are kept for the time after a step."""
    method, train = plan.method, plan.clips.train
    if method.sees_everything:
        return len(clip_set(train, range(plan.protocol.seen(step))))
    if method.replays and method.choose is None:
        chosen = random_exemplars(plan.protocol, train, plan.config.training.seed, step + 1)
    return sum(len(set(ids)) for ids in chosen.values())


def _by_label(protocol: Protocol, memory: dict[int, tuple[str, ...]]) -> dict[str, list[str]]:
    return {protocol.classes[column]: list(ids) for column, ids in sorted(memory.items())}


def _classifier(context: StepContext) -> Classifier:
    """How the student classifies as it is."""
    return Classifier(context.student, replace(context.head.grow(context), settings=context.settings))


def _accuracy(classifier: Classifier, clips: StepClips) -> float:
    return int((classifier.columns(clips.tokens) == clips.labels).sum()) / len(clips)


def _network_of_step(plan: Plan, step: int, before: Classifier | None, draws: Draws) -> AudioVisualNetwork:
    """A fresh network, or a copy of the one before with this step's columns added."""
    info, protocol, layer = plan.cache.info, plan.protocol, plan.method.layer
    if before is None or layer is None or plan.method.starts_fresh:
        shape = NetworkShape(
            plan.config.modality,
            info.audio.shape[-1],
            info.visual.shape[-1],
            protocol.seen(step),
            attention=plan.config.network.attention,
        )
        return draws.network(step, shape, layer).to(plan.device, plan.dtype)
    network = AudioVisualNetwork(before.network.shape, layer).to(plan.device, plan.dtype)
    network.load_state_dict(before.network.state_dict())
    width = network.classifier.in_features
    network.grow(draws.new_layer(step, layer, width, protocol.step_sizes[step]))
    return network
