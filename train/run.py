"""Owns the protocol's course: step after step, what is trained, tested and kept; knows no video."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from avcil.cache import TokenCache
from avcil.cache.budget import TokenPlan
from avcil.errors import ConfigError
from avcil.train.attention_kernels import compiling_pays
from avcil.train.config import Modality, RunConfig
from avcil.train.draws import Draws
from avcil.train.environment import describe_environment
from avcil.train.fused_attention import FusedAttention, product_dtype
from avcil.train.loop import NOTHING_FITTED, EpochRecord, epoch_batches, fit_step
from avcil.train.memory import random_exemplars
from avcil.train.methods import Method, StepContext, find_method
from avcil.train.model import AudioVisualNetwork, NetworkShape
from avcil.train.predict import Classifier
from avcil.train.protocol import (
    ClassClips,
    ClipSet,
    Protocol,
    build_protocol,
    clip_set,
    exemplar_set,
    group_clips,
)
from avcil.train.results import write_results
from avcil.train.run_folder import RunFacts, RunFolder, StepRecord
from avcil.train.step_costs import StepMeter
from avcil.train.step_data import StepClips, load_clips, load_step


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: step and epoch count from 0, `record` is that of the epoch just finished."""

    step: int
    steps: int
    epoch: int
    epochs: int
    record: EpochRecord


@dataclass(frozen=True)
class Plan:
    """A run that was checked against its cache and can start."""

    cache: TokenCache
    config: RunConfig
    method: Method
    protocol: Protocol
    clips: ClassClips
    device: torch.device
    attention: FusedAttention

    @property
    def dtype(self) -> torch.dtype:
        """The precision of parameters, losses and all arithmetic but the attention's large products."""
        return torch.float64 if self.config.training.precision == "fp64" else torch.float32

    @property
    def products(self) -> torch.dtype:
        """The precision of those products."""
        return product_dtype(self.config.training.precision, self.device)

    @property
    def arithmetic(self) -> str:
        """The precision that was asked for, and what it is on this device, for people."""
        precision = self.config.training.precision
        products = str(self.products).removeprefix("torch.")
        return f"{precision} ({products})" if precision == "auto" else precision

    @property
    def modality(self) -> Modality:
        """Which tokens the network looks at."""
        return self.config.modality


def plan_run(cache: TokenCache, config: RunConfig) -> Plan:
    """Check a configuration against a cache before anything is written.

    Raises:
        ConfigError: unknown method or modality, a protocol the cache cannot serve, no such device.
    """
    method = find_method(config.method, config.modality)
    present = cache.present()
    labels = list(dict.fromkeys(clip.label for clip in cache.clips))
    protocol = build_protocol(config.protocol, labels)
    clips = group_clips(
        protocol,
        ((clip.id, clip.label, clip.split) for clip in present),
        needs_val=config.training.select == "best_val",
    )
    _check_memory(method, protocol)
    device = _device(config.training.device)
    return Plan(cache, config, method, protocol, clips, device, _attention(cache, config, clips, device))


def train_run(
    plan: Plan,
    out: Path,
    *,
    draws: Draws | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_tokens: Callable[[int, TokenPlan], None] = lambda step, plan: None,
) -> RunFolder:
    """Train all steps that are not finished yet and return the run.

    Every random choice derives from the seed, the step and the epoch, so a run that was killed goes on with
    the step it was in and ends with the numbers of an uninterrupted one.

    Args:
        plan: from `plan_run`.
        out: run folder; created, or continued when it holds the same run.
        draws: random choices to use instead of those of the configured seed.
        on_progress: called after every epoch.
        on_step: called when a step is finished and saved.
        on_tokens: called with a step and where its tokens stay, once they are there.

    Raises:
        RunError: `out` holds something else, or another process is training it.
        CacheError: tokens cannot be read.
    """
    protocol, config = plan.protocol, plan.config
    draws = draws or Draws(config.training.seed)
    facts = RunFacts(
        caches=tuple(str(path.resolve()) for path in plan.cache.paths),
        cache_fingerprint=plan.cache.fingerprint,
        tokens=plan.cache.info.content(),
        classes=protocol.classes,
        step_sizes=protocol.step_sizes,
        memory=protocol.memory,
        environment=describe_environment(plan.device, plan.products),
    )
    run = RunFolder.create_or_resume(out, config, facts)
    with run.writing() as journal:

        def note(progress: TrainProgress) -> None:
            journal.epoch(progress.step, progress.epoch, progress.record)
            on_progress(progress)

        network = run.network(run.steps_done - 1, plan.device) if run.steps_done else None
        for step in range(run.steps_done, protocol.steps):
            network = _train_step(plan, run, step, network, draws, note, on_tokens)
            journal.step_done()
            on_step(run.record(step))
        write_results(run)
    return run


def _train_step(
    plan: Plan,
    run: RunFolder,
    step: int,
    before: AudioVisualNetwork | None,
    draws: Draws,
    on_progress: Callable[[TrainProgress], None],
    on_tokens: Callable[[int, TokenPlan], None],
) -> AudioVisualNetwork:
    meter = StepMeter(plan.device)
    protocol, training, method = plan.protocol, plan.config.training, plan.method
    seen = range(protocol.seen(step))
    memory = _memory_of_step(plan, run, step)
    current = clip_set(plan.clips.train, seen if method.sees_everything else protocol.tasks[step])
    beside = exemplar_set(memory)
    if method.replay == "joined":
        current, beside = current + beside, ClipSet((), ())
    validated = clip_set(plan.clips.val, seen) if training.select == "best_val" else None
    with meter.stage("load"):
        data = load_step(plan.cache, current, beside, validated, plan.config, plan.device)
    on_tokens(step, data.plan)
    student = _network_of_step(plan, step, before, draws)
    teacher = None if method.starts_fresh else before
    for network in filter(None, (student, teacher)):
        network.fused = plan.attention
    context = StepContext(
        step=step,
        tasks=protocol.tasks[: step + 1],
        current=data.current,
        exemplars=data.exemplars,
        student=student,
        teacher=teacher,
        kept=run.kept(step - 1, plan.device) if step else {},
        exemplars_per_class=protocol.exemplars_per_class(protocol.seen(step)),
        generator=draws.generator(step),
        config=plan.config,
    )

    def validate(clips: StepClips) -> float:
        with meter.stage("validate"):
            return _accuracy(_classifier(method, context), clips)

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
                lambda epoch, record: on_progress(
                    TrainProgress(step, protocol.steps, epoch, training.epochs, record)
                ),
            )
    with meter.stage("test"):
        test = load_clips(plan.cache, clip_set(plan.clips.test, seen), plan.config, plan.device)
        classifier = _classifier(method, context)
        predicted = classifier.columns(test.tokens).tolist()
    run.save_step(
        context.student,
        StepRecord(
            step=step,
            train_clips=len(current),
            exemplars=_by_label(protocol, memory),
            kept=_by_label(protocol, _chosen(method, context, current.ids + beside.ids)),
            best_epoch=fitted.best_epoch,
            epochs=fitted.epochs,
            predicted=predicted,
            true=test.labels.tolist(),
            seconds=meter.seconds,
            stages=meter.stages,
            peak_memory=meter.peak_memory,
        ),
        classifier.kept,
    )
    return context.student


def _check_memory(method: Method, protocol: Protocol) -> None:
    """Every class that must have an exemplar gets one."""
    if not method.replays:
        return
    classes = protocol.seen(protocol.steps - 1) if method.readout.needs_exemplars else 0
    if protocol.steps > 1:
        classes = max(classes, protocol.seen(protocol.steps - 2))
    if classes and not protocol.exemplars_per_class(classes):
        option = "--memory" if protocol.memory_per_class is None else "--memory-per-class"
        raise ConfigError(
            f"memory {protocol.memory} is less than one exemplar for each of {classes} classes, which "
            f"{method.name} needs; give a larger {option}"
        )


def _memory_of_step(plan: Plan, run: RunFolder, step: int) -> dict[int, tuple[str, ...]]:
    """The exemplars that a step may replay: what the step before kept, or a draw that the seed decides."""
    if step == 0 or not plan.method.replays:
        return {}
    if plan.method.choose is None:
        return random_exemplars(plan.protocol, plan.clips.train, plan.config.training.seed)[step]
    kept = run.record(step - 1).kept
    return {plan.protocol.classes.index(label): tuple(ids) for label, ids in kept.items()}


def _chosen(method: Method, context: StepContext, ids: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    if method.choose is None:
        return {}
    rows_by_class = enumerate(method.choose(context))
    return {column: tuple(ids[row] for row in rows.tolist()) for column, rows in rows_by_class}


def _by_label(protocol: Protocol, memory: dict[int, tuple[str, ...]]) -> dict[str, list[str]]:
    return {protocol.classes[column]: list(ids) for column, ids in sorted(memory.items())}


def _classifier(method: Method, context: StepContext) -> Classifier:
    """How the student classifies as it is."""
    return Classifier(context.student, method.readout.scores, method.readout.keep(context))


def _accuracy(classifier: Classifier, clips: StepClips) -> float:
    return int((classifier.columns(clips.tokens) == clips.labels).sum()) / len(clips)


def _network_of_step(
    plan: Plan, step: int, before: AudioVisualNetwork | None, draws: Draws
) -> AudioVisualNetwork:
    """A fresh network, or a copy of the one before with this step's columns added."""
    info, protocol, head = plan.cache.info, plan.protocol, plan.method.head
    if before is None or plan.method.starts_fresh:
        shape = NetworkShape(
            plan.modality,
            info.audio.shape[-1],
            info.visual.shape[-1],
            protocol.seen(step),
            head,
            attention=plan.config.network.attention,
        )
        return draws.network(step, shape).to(plan.device, plan.dtype)
    network = AudioVisualNetwork(before.shape).to(plan.device, plan.dtype)
    network.load_state_dict(before.state_dict())
    network.grow(draws.new_head(step, head, before.classifier.in_features, protocol.step_sizes[step]))
    return network


def _attention(
    cache: TokenCache, config: RunConfig, clips: ClassClips, device: torch.device
) -> FusedAttention:
    pays = compiling_pays(
        sum(map(len, clips.train)), math.prod(cache.info.visual.shape), config.training.epochs
    )
    return FusedAttention(product_dtype(config.training.precision, device), compiled=pays)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used ({str(error).splitlines()[0]})") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; give auto, cpu or cuda")
    return device
