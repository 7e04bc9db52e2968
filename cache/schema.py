"""The description of a cache: token shapes, recipe, encoders, clips. Touches no file.

Letters: T time, S space, D width. Everything here is checked when it is made, so that a value of one of
these types can be trusted wherever it came from.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from avcil.errors import CacheError

SPLITS = ("train", "val", "test")
DTYPES: dict[str, np.dtype[Any]] = {  # little-endian on every machine
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "int8": np.dtype("i1"),  # visual tokens only, with a scale each: see `row.quantise`
}
SCALE_DTYPE = np.dtype("<f2")
_ORIGINS = {f"{kind}_encoder.{key}" for kind in ("visual", "audio") for key in ("weights", "weights_sha256")}
_SHA256 = re.compile("[0-9a-f]{64}")
MAX_ID_BYTES = 1024
MAX_TEXT_BYTES = 8192  # a label or a source; well below the csv module's limit for a field


@dataclass(frozen=True)
class TokenSpec:
    """Shape and number type of one clip's tokens; an int8 token of width D has a float16 scale besides.

    Raises:
        CacheError: an empty or non-positive shape, or a dtype other than those of `DTYPES`.
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if not self.shape or any(type(n) is not int or n < 1 for n in self.shape):
            raise CacheError(f"token shape {self.shape!r}: expected positive whole numbers")
        if self.dtype not in DTYPES:
            raise CacheError(f"token dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The number type on disk."""
        return DTYPES[self.dtype]

    @property
    def scale_shape(self) -> tuple[int, ...] | None:
        """Shape of one clip's scales, None where tokens have none."""
        return self.shape[:-1] if self.dtype == "int8" else None

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip's tokens, with their scales."""
        scales = 0 if self.scale_shape is None else math.prod(self.scale_shape)
        return math.prod(self.shape) * self.numpy_dtype.itemsize + scales * SCALE_DTYPE.itemsize


@dataclass(frozen=True)
class EncoderInfo:
    """Which frozen encoder made the tokens.

    `fingerprint` is the hexadecimal sha256 of its configuration and weights and alone decides whether two
    encoders are the same; `weights` says in words where they came from, `weights_sha256` is the hash of the
    file they were read from, None (and not in `cache.json`) where there was none.

    Raises:
        CacheError: something else than text, or `fingerprint` or `weights_sha256` is not 64 lower-case
            hexadecimal digits.
    """

    name: str
    fingerprint: str
    weights: str
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        for key in ("name", "weights"):
            _utf8(f"{key} of an encoder", getattr(self, key))
        for key in ("fingerprint", "weights_sha256"):
            value = getattr(self, key)
            if (key, value) != ("weights_sha256", None) and not _SHA256.fullmatch(str(value)):
                raise CacheError(f"{key} {value!r} of encoder {self.name!r}: expected a sha256")


@dataclass(frozen=True)
class CacheInfo:
    """What every token of a cache is: `visual` (T, S, D), `audio` (D,), recipe and encoders.

    `recipe` is anything JSON can hold under string keys; tuples in it become lists. `precision` is the
    arithmetic of the encoders (fp32, bf16, fp16), empty where unknown: their tokens differ by rounding.

    Raises:
        CacheError: a shape with the wrong number of axes, int8 audio, or a recipe that JSON cannot hold.
    """

    visual: TokenSpec
    audio: TokenSpec
    recipe: Mapping[str, Any]
    visual_encoder: EncoderInfo
    audio_encoder: EncoderInfo
    precision: str = ""

    def __post_init__(self) -> None:
        for name, spec, axes in (("visual", self.visual, "(T, S, D)"), ("audio", self.audio, "(D,)")):
            if len(spec.shape) != len(axes.split()):
                raise CacheError(f"{name} token shape {spec.shape}: expected {axes}")
        if self.audio.dtype == "int8":
            raise CacheError(
                "audio token dtype 'int8': expected float16 or float32; only visual tokens are int8"
            )
        try:
            text = json.dumps(dict(self.recipe), allow_nan=False, ensure_ascii=False)
            recipe = json.loads(text.encode("utf-8"))
        except (TypeError, ValueError) as error:
            raise CacheError(f"the recipe cannot be stored as JSON: {error}") from error
        object.__setattr__(self, "recipe", recipe)

    @property
    def identity(self) -> str:
        """The hexadecimal sha256 of all that `differences` compares: every shard of the cache repeats it."""
        text = json.dumps(_compared(self), sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def content(self) -> dict[str, Any]:
        """The fields as JSON holds them; what is unknown (`precision`, `weights_sha256`) is left out."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        for key in ("visual_encoder", "audio_encoder"):
            if content[key]["weights_sha256"] is None:
                del content[key]["weights_sha256"]
        if not self.precision:
            del content["precision"]
        return content

    @classmethod
    def from_content(cls, data: Mapping[str, Any]) -> "CacheInfo":
        """The inverse of `content`.

        Raises:
            CacheError: a missing, unknown or bad key.
        """
        encoder_keys = {"name": str, "fingerprint": str, "weights": str}
        top = {key: dict for key in ("visual", "audio", "recipe", "visual_encoder", "audio_encoder")}
        stated = {"precision": str} if "precision" in data else {}
        _check_keys(data, {**top, **stated}, "")
        for key in ("visual", "audio"):
            _check_keys(data[key], {"shape": list, "dtype": str}, f"{key}.")
        for key in ("visual_encoder", "audio_encoder"):
            hashed = {"weights_sha256": str} if "weights_sha256" in data[key] else {}
            _check_keys(data[key], {**encoder_keys, **hashed}, f"{key}.")
        return cls(
            visual=TokenSpec(tuple(data["visual"]["shape"]), data["visual"]["dtype"]),
            audio=TokenSpec(tuple(data["audio"]["shape"]), data["audio"]["dtype"]),
            recipe=data["recipe"],
            visual_encoder=EncoderInfo(**data["visual_encoder"]),
            audio_encoder=EncoderInfo(**data["audio_encoder"]),
            precision=data.get("precision", ""),
        )


@dataclass(frozen=True)
class CacheClip:
    """One line of the manifest.

    `source` says which part of which file the clip is (path and window); empty when unknown.

    Raises:
        CacheError: an empty id or label, an unknown split, text that UTF-8 or a fixed-length field cannot
            hold (a lone surrogate, a NUL), or text longer than the limits of this module.
    """

    id: str
    label: str
    split: str
    source: str = ""

    def __post_init__(self) -> None:
        limits = {"id": MAX_ID_BYTES, "label": MAX_TEXT_BYTES, "source": MAX_TEXT_BYTES}
        for name, limit in limits.items():
            value = getattr(self, name)
            size = len(_utf8(f"clip {name}", value))
            if "\0" in value or size > limit or (size == 0 and name != "source"):
                raise CacheError(f"clip {name} {value[:80]!r}: expected 1 to {limit} bytes without NUL")
        if self.split not in SPLITS:
            raise CacheError(f"clip {self.id!r}: split {self.split!r} is not one of {', '.join(SPLITS)}")


def differences(
    have: CacheInfo, want: CacheInfo, *, introduced: tuple[str, str] = ("the cache has", "asked for")
) -> list[str]:
    """What keeps tokens of `have` and `want` from being mixed, one line a field; empty if nothing does.

    `introduced` are the words before the value of either. Where the weights came from is not compared: the
    fingerprints decide.
    """
    old, new = _compared(have), _compared(want)
    return [
        f"{key}: {introduced[0]} {old.get(key)!r}, {introduced[1]} {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if _as_hashed(old, key) != _as_hashed(new, key)
    ]


def _as_hashed(values: Mapping[str, Any], key: str) -> str | None:
    """A value as `identity` takes it in: 2 and 2.0 are equal to Python and not the same text."""
    return json.dumps(values[key], sort_keys=True) if key in values else None


def _utf8(what: str, value: Any) -> bytes:
    """Text as files hold it; raises `CacheError` for anything else."""
    if not isinstance(value, str):
        raise CacheError(f"{what} is {value!r}: expected text")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CacheError(f"{what} {value!r} is not valid Unicode: {error.reason}") from error


def _compared(info: CacheInfo) -> dict[str, Any]:
    return {key: value for key, value in _flat(info.content()).items() if key not in _ORIGINS}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:  # any JSON value
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }


def _check_keys(data: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for key, kind in kinds.items():
        if key not in data:
            raise CacheError(f'"{where}{key}" is missing')
        if not isinstance(data[key], kind):
            raise CacheError(f'"{where}{key}" is {data[key]!r}: expected {kind.__name__}')
    if unknown := sorted(data.keys() - kinds.keys()):
        raise CacheError(f'unknown key "{where}{unknown[0]}"')
