"""Predictor: a run's encoders and the classifier of one of its steps, for videos that are in no cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from avcil.cache import Tokens
from avcil.errors import DecodeError, ManifestError, RunError
from avcil.extract.in_memory import EncodedClip, encode_clip, encode_clips
from avcil.extract.options import ExtractOptions
from avcil.extract.sources.clip import Clip, name_text
from avcil.extract.sources.find_videos import media_files_below
from avcil.extract.tokens import TokenEncoder
from avcil.predict.attention_by_step import VideoAttention, attention_by_step
from avcil.predict.attention_maps import Reduction
from avcil.predict.recorded import EncoderSource, build_recorded_encoder
from avcil.train.methods.head import Classifier
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import as_seen, load_classifier


@dataclass(frozen=True)
class Prediction:
    """What a step says of one video, or why it says nothing.

    Attributes:
        video: the file.
        scores: by label, the largest first; empty where there is an `error`.
        are_probabilities: the scores sum to 1. Distances to class means and to proxies are no probabilities:
            their scores only rank.
        error: why the video could not be encoded.
    """

    video: Path
    scores: dict[str, float]
    are_probabilities: bool = True
    error: DecodeError | None = None

    @property
    def label(self) -> str | None:
        """The class with the highest score; None where there is an `error`."""
        return next(iter(self.scores), None)


@dataclass(frozen=True)
class Predictor:
    """Classifies new videos as step `step` (from 0) of a run does; made by `open`.

    A video is encoded as the run's cache was, through the cache's number type and by itself: its scores are
    those of the same clip in the cache, whatever other videos are given.
    """

    run: Run
    step: int
    encoder: TokenEncoder = field(repr=False)
    classifier: Classifier = field(repr=False)

    @classmethod
    def open(
        cls,
        run: Path | str,
        *,
        step: int | None = None,
        visual: EncoderSource | None = None,
        audio: EncoderSource | None = None,
        device: str = "auto",
    ) -> Predictor:
        """Build a run's encoders and load the classifier of a step; the run's cache is not needed.

        Args:
            run: folder of a run.
            step: whose classifier, from 1; None: the last finished one.
            visual: encoder and weights, where the record alone cannot find them, such as a file of weights.
            audio: the same for sound.
            device: `auto`, `cpu` or `cuda[:N]`.

        Raises:
            RunError: no run, no such step, or files that cannot be read.
            EncoderError: weights are needed, or what was given makes other tokens.
        """
        folder = Run.open(Path(run))
        chosen = _finished_step(folder, step)
        encoder = build_recorded_encoder(
            folder.token_info, visual or EncoderSource(), audio or EncoderSource(), device
        )
        return cls(folder, chosen, encoder, load_classifier(folder, chosen, encoder.device))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that can be predicted, in learning order."""
        return self.run.facts.classes[: sum(self.run.facts.step_sizes[: self.step + 1])]

    @property
    def other_precision(self) -> str | None:
        """What the encoders' arithmetic is here, where the run's tokens were made in another; else None."""
        then, now = self.run.token_info.precision, self.encoder.info.precision
        return now if then and then != now else None

    def predict(
        self,
        videos: Path | str | Iterable[Path | str],
        options: ExtractOptions | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Prediction]:
        """Classify videos, in their order; one that fails is a value and stops no other.

        Args:
            videos: files; a folder stands for all media files below it.
            options: how to decode (decoder, workers, batch, deadline_s, allow_missing); None: here, in this
                process, as suits a few videos.
            on_progress: called with the number of videos done and of all.

        Raises:
            ManifestError: a folder without a media file.
        """
        given = [videos] if isinstance(videos, Path | str) else videos
        paths = list_videos([Path(video) for video in given])
        results = [Prediction(path, {}) for path in paths]

        def on_clip(clip: Clip, tokens: Tokens | DecodeError) -> None:
            number = int(clip.id)
            results[number] = (
                Prediction(paths[number], {}, error=tokens)
                if isinstance(tokens, DecodeError)
                else self.classify(paths[number], tokens)
            )

        clips = [_clip(str(number), path) for number, path in enumerate(paths)]
        encode_clips(
            clips,
            self.encoder,
            options or ExtractOptions(workers=0),
            on_clip,
            lambda done: on_progress(done, len(paths)),
        )
        return results

    def classify(self, video: Path, tokens: Tokens) -> Prediction:
        """Classify the tokens of one video (n = 1)."""
        device = self.encoder.device
        audio, visual = (torch.from_numpy(part).to(device) for part in (tokens.audio, tokens.widened()))
        scores = self.classifier.scores(as_seen(self.run, audio, visual, device))[0]
        probable = self.classifier.log_probabilities
        values = (scores.softmax(0) if probable else scores).tolist()
        ranked = sorted(zip(self.classes, values, strict=True), key=lambda pair: -pair[1])
        return Prediction(video, dict(ranked), are_probabilities=probable)

    def encode(self, video: Path, options: ExtractOptions) -> EncodedClip:
        """Decode and encode one video in this process; raises `ManifestError` where that fails."""
        try:
            return encode_clip(_clip(name_text(video.name), video), self.encoder, options)
        except DecodeError as error:
            raise ManifestError(f"{video}: {error}") from error

    def attention(
        self, tokens: Tokens, reduction: Reduction = "class", label: str | None = None
    ) -> VideoAttention:
        """The attention of every step up to this one on one clip (n = 1), see `attention_by_step`."""
        return attention_by_step(self.run, tokens, self.encoder.device, self.step, reduction, label)


def list_videos(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as their media files; raises `ManifestError` for a folder without."""
    videos: list[Path] = []
    for path in paths:
        found = list(media_files_below(path)) if path.is_dir() else [path]
        if not found:
            raise ManifestError(f"{path}: no videos below this folder")
        videos += found
    return videos


def _clip(clip_id: str, video: Path) -> Clip:
    return Clip(clip_id, video, label="unknown", split="test")


def _finished_step(run: Run, asked: int | None) -> int:
    """The step asked for (from 1), by default the last finished one, as an index from 0."""
    done = run.steps_done
    if done == 0:
        raise RunError(f"{run.path}: no step is finished yet; give the same avcil train command again")
    if asked is not None and not 1 <= asked <= done:
        raise RunError(f"{run.path}: {done} steps are finished, there is no step {asked}; give 1 to {done}")
    return (asked or done) - 1
