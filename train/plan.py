"""Plans: a configuration that was checked against a cache, before anything is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from avcil.cache import TokenCache
from avcil.errors import ConfigError
from avcil.train.config import Precision, RunConfig
from avcil.train.methods import find_method
from avcil.train.methods.method import Method
from avcil.train.network.fused_attention import FusedAttention
from avcil.train.network.kernels import compiling_pays
from avcil.train.protocol import ClassClips, Protocol, build_protocol, group_clips
from avcil.train.tokens.loading import TokenNeeds


@dataclass(frozen=True)
class Plan:
    """A run that was checked against its cache and can start.

    Attributes:
        cache: the tokens.
        config: what was asked for, the method's settings complete.
        method: what learns.
        settings: those of the method, in its own type.
        protocol: classes and steps.
        clips: of every class.
        device: where training runs.
        attention: how the network's attention is computed.
    """

    cache: TokenCache
    config: RunConfig
    method: Method
    settings: Any
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
    def clip_bytes(self) -> int:
        """Bytes of a clip's tokens in the cache, of the modalities that are used."""
        info, needs = self.cache.info, self.needs
        return info.audio.row_bytes * needs.audio + info.visual.row_bytes * (needs.visual != "none")

    @property
    def needs(self) -> TokenNeeds:
        """What of a clip's tokens is used: without attention no more of the visual ones than their mean."""
        modality = self.config.modality
        if modality == "audio":
            return TokenNeeds(visual="none")
        if self.method.visual is not None:
            return TokenNeeds(audio=modality != "visual", visual=self.method.visual)
        attention = modality == "audio-visual" and self.config.network.attention
        return TokenNeeds(audio=modality != "visual", visual="whole" if attention else "mean")


def product_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The precision of matrix products: `auto` is float16 on a GPU, bfloat16 on CPUs that multiply it."""
    if precision == "fp64":
        return torch.float64
    if precision == "auto" and device.type == "cuda":
        return torch.float16
    # torch 2.11 has no public way to ask; its own products in bfloat16 are chosen by the same two answers.
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "auto" and able:
        return torch.bfloat16
    return torch.float32


def plan_run(cache: TokenCache, config: RunConfig) -> Plan:
    """Check a configuration against a cache before anything is written.

    Raises:
        ConfigError: unknown method, modality or setting, a protocol the cache cannot serve, no such device.
    """
    method, settings = find_method(config.method.name).configured(config.method.settings)
    if config.modality not in method.modalities:
        raise ConfigError(
            f"method {config.method.name!r} has no modality {config.modality!r}; "
            f"choose {' or '.join(method.modalities)}"
        )
    complete = {name: value for name, value in asdict(settings).items() if value is not None}
    config = replace(config, method=replace(config.method, settings=complete))
    present = cache.present()
    labels = list(dict.fromkeys(clip.label for clip in cache.clips))
    protocol = build_protocol(config.protocol, labels)
    clips = group_clips(
        protocol,
        ((clip.id, clip.label, clip.split) for clip in present),
        needs_val=config.training.select == "best_val" and method.layer is not None,
    )
    _check_memory(method, protocol)
    device = _device(config.training.device)
    attention = _attention(cache, config, clips, device)
    plan = Plan(cache, config, method, settings, protocol, clips, device, attention)
    _check_tokens(plan)
    return plan


def _check_tokens(plan: Plan) -> None:
    """A cache of statistics holds those that are needed."""
    cache, needs, config = plan.cache, plan.needs, plan.config
    reduction = cache.info.visual_reduction
    if reduction is None or reduction.statistics is None or needs.visual == "none":
        return
    way = f"method {config.method.name!r}, {config.modality},"
    has = f"{cache.path} has only their {', '.join(reduction.names)}"
    if needs.visual == "whole":
        raise ConfigError(
            f"{way} attends to single visual tokens and {has}; train on the cache that it was pooled "
            "from, or choose another method or modality"
        )
    if lacking := [name for name in needs.statistics if name not in reduction.names]:
        raise ConfigError(
            f"{way} needs the {', '.join(lacking)} of visual tokens and {has}; pool them again with "
            f"--statistics {needs.visual}"
        )


def _check_memory(method: Method, protocol: Protocol) -> None:
    """Every class that must have an exemplar gets one."""
    if not method.replays:
        return
    classes = protocol.seen(protocol.steps - 1) if method.head.needs_exemplars else 0
    if protocol.steps > 1:
        classes = max(classes, protocol.seen(protocol.steps - 2))
    if classes and not protocol.exemplars_per_class(classes):
        option = "--memory" if protocol.memory_per_class is None else "--memory-per-class"
        raise ConfigError(
            f"memory {protocol.memory} is less than one exemplar for each of {classes} classes, which "
            f"{method.name} needs; give a larger {option}"
        )


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
