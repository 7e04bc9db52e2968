"""The description of a cache: recipe, encoders, clips. Touches no file.

Letters: T time, S space, D width. Everything here is checked when it is made, so that a value of one of
these types can be trusted wherever it came from.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from avcil.cache.token_spec import Reduction, TokenSpec
from avcil.errors import CacheError
from avcil.tables import STATED, from_table, shown

SPLITS = ("train", "val", "test")
WeightsKind = Literal["random", "hub", "file", "own"]
_ENCODERS = ("visual_encoder", "audio_encoder")
_SHA256 = re.compile("[0-9a-f]{64}")
MAX_ID_BYTES = 1024
MAX_TEXT_BYTES = 8192  # a label or a source; well below the csv module's limit for a field


@dataclass(frozen=True)
class WeightsOrigin:
    """Where the weights of an encoder came from. Fields that do not apply are empty.

    Attributes:
        kind: `random`, drawn anew; `hub`, a repository on the Hugging Face hub; `file`, a local file or
            folder; `own`, whatever the encoder's owner states.
        words: `random`: the seed; `hub` and `file`: the published format; `own`: anything.
        repository: `hub`: OWNER/NAME.
        commit: `hub`: the full hash.
        file: `file`: name of the file or folder, without the folders around it.
        sha256: `hub` and `file`: hexadecimal hash of the file that was read.

    Raises:
        CacheError: something else than text, an unknown kind, or a field that this kind needs is empty.
    """

    kind: WeightsKind = field(default="own", metadata=STATED)
    words: str = ""
    repository: str = ""
    commit: str = ""
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _utf8(f"{name} of the weights of an encoder", value)
        if self.kind not in get_args(WeightsKind):
            raise CacheError(f"weights of kind {self.kind!r}: expected {', '.join(get_args(WeightsKind))}")
        needed = {"hub": ("repository", "commit"), "file": ("file",)}.get(self.kind, ())
        for name in needed:
            if not getattr(self, name):
                raise CacheError(f"{name} of an encoder's weights of kind {self.kind!r} is empty")
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise CacheError(f"sha256 {self.sha256!r} of the weights of an encoder: expected a sha256")

    def __str__(self) -> str:
        """One line for people, the same that caches of version 2 hold."""
        if self.kind == "random":
            return f"random ({self.words})"
        if self.kind == "hub":
            return f"{self.words} {self.commit}, from {self.repository}@{self.commit}"
        return f"{self.words} {self.file}" if self.kind == "file" else self.words

    @classmethod
    def from_words(cls, words: str, sha256: str = "") -> "WeightsOrigin":
        """Read the line that caches of version 2 hold; whatever is not one of avcil's becomes `own`."""
        origin = cls("own", words, sha256=sha256)
        if found := re.fullmatch(r"random \((.*)\)", words):
            origin = cls("random", found[1], sha256=sha256)
        elif found := re.fullmatch(r"(.+) (\S+), from (\S+/\S+)@\2", words):
            origin = cls("hub", found[1], repository=found[3], commit=found[2], sha256=sha256)
        elif found := re.fullmatch(r"((?:Video|Audio)MAE(?:, \w+| Face)* (?:file|folder)) (.+)", words):
            origin = cls("file", found[1], file=found[2], sha256=sha256)
        return origin


@dataclass(frozen=True)
class EncoderInfo:
    """Which frozen encoder made the tokens.

    `fingerprint` is the hexadecimal sha256 of its configuration and weights and alone decides whether two
    encoders are the same.

    Raises:
        CacheError: a name that is not text, or a fingerprint that is not 64 lower-case hexadecimal digits.
    """

    name: str
    fingerprint: str
    weights: WeightsOrigin = field(default_factory=WeightsOrigin, metadata=STATED)

    def __post_init__(self) -> None:
        _utf8("name of an encoder", self.name)
        if not _SHA256.fullmatch(str(self.fingerprint)):
            raise CacheError(f"fingerprint {self.fingerprint!r} of encoder {self.name!r}: expected a sha256")

    @classmethod
    def as_fields(cls, content: Any) -> Any:
        """In version 2 `weights` was a line of words, with the hash beside it."""
        if not isinstance(content, Mapping) or not isinstance(content.get("weights"), str):
            return content
        sha256 = content.get("weights_sha256", "")
        if not isinstance(sha256, str):
            raise CacheError(f"weights_sha256 of an encoder is {shown(sha256)}: expected a sha256")
        weights = asdict(WeightsOrigin.from_words(content["weights"], sha256))
        return {key: value for key, value in content.items() if key != "weights_sha256"} | {
            "weights": weights
        }


@dataclass(frozen=True)
class CacheInfo:
    """What every token of a cache is: `visual` (T, S, D), `audio` (D,), recipe and encoders.

    `recipe` is anything JSON can hold under string keys; tuples in it become lists. `precision` is the
    arithmetic of the encoders (fp32, bf16, fp16), empty where unknown: their tokens differ by rounding.
    `visual_reduction` says what became of the encoder's visual tokens where `visual` is less than all.

    Raises:
        CacheError: a shape with the wrong number of axes, int8 audio, a recipe that JSON cannot hold, or a
            reduction that gives other visual tokens.
    """

    visual: TokenSpec
    audio: TokenSpec
    recipe: Mapping[str, Any]
    visual_encoder: EncoderInfo
    audio_encoder: EncoderInfo
    precision: str = ""
    visual_reduction: Reduction | None = None

    def __post_init__(self) -> None:
        for name, spec, axes in (("visual", self.visual, "(T, S, D)"), ("audio", self.audio, "(D,)")):
            if len(spec.shape) != len(axes.split()):
                raise CacheError(f"{name} token shape {spec.shape}: expected {axes}")
        if self.audio.dtype == "int8":
            raise CacheError(
                "audio token dtype 'int8': expected float16 or float32; only visual tokens are int8"
            )
        if self.visual_reduction is not None and self.visual_reduction.spec != self.visual:
            raise CacheError(f"visual tokens {self.visual} are not what {self.visual_reduction} gives")
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
        """The fields as JSON holds them, without an unknown `precision`, empty texts in `weights` and what is
        not reduced."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        for key in _ENCODERS:
            weights = content[key]["weights"]
            content[key]["weights"] = {name: value for name, value in weights.items() if value}
        if not self.precision:
            del content["precision"]
        reduction = content.pop("visual_reduction") or {}
        if kept := {key: value for key, value in reduction.items() if value is not None}:
            content["visual_reduction"] = kept
        return content

    def content_in_words(self) -> dict[str, Any]:
        """The content as version 2 had it, of which a cache's fingerprint is taken: `weights` is one line."""
        content = self.content()
        for key in _ENCODERS:
            weights = content[key]["weights"]
            content[key]["weights"] = str(WeightsOrigin(**weights))
            if "sha256" in weights:
                content[key]["weights_sha256"] = weights["sha256"]
        return content

    @classmethod
    def from_content(cls, data: Mapping[str, Any]) -> "CacheInfo":
        """The inverse of `content`.

        Raises:
            CacheError: a missing, unknown or bad key.
        """
        return from_table(cls, data, CacheError)


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
            raise CacheError(f"clip {self.id!r}: split {shown(self.split)} is not one of {', '.join(SPLITS)}")


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
    content = info.content()
    for key in _ENCODERS:
        del content[key]["weights"]
    return _flat(content)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:  # any JSON value
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }
