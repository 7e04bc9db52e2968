"""How fast is extraction, and which stage binds it?

    python -m benchmarks.extract                          200 clips, demo encoders
    python -m benchmarks.extract --encoders base --clips 8 --batch 2

Renders 10 s clips (340x256, 30 fps, H.264 with a key frame every 250 frames, stereo AAC), then measures, in
one run on one machine:

* each stage alone: decoding in the worker processes, encoding prepared clips, writing tokens;
* the whole extraction, from starting the workers to the last row on disk;
* everything before the encoders in the shape of the published recipe: one clip at a time, all frames decoded,
  8 a second written as JPEG files, the sound written as a WAV file, 16 JPEG files read back and resized, the
  WAV file read back and turned into a log-mel spectrogram; and the same with every frame written.

`ratio_to_slowest_stage` is end to end against the slowest stage alone, the start of the workers included
in both; `ratio_to_slowest_stage_once_started` leaves it out of both. `ratio_to_published_shape` is decoding
alone against 8 JPEG files a second, the start of the workers included; `ratio_once_started` leaves it out, as
in a long run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from avcil.cache import CacheClip, CacheWriter
from avcil.extract.engine import Progress, extract
from avcil.extract.options import ExtractOptions, build_token_encoder
from avcil.extract.prepare import Preparation, PreparedClip
from avcil.extract.recipe import Recipe, log_mel, resize_crop
from avcil.extract.sources.clip import Clip
from avcil.extract.workers import DecodePool, PoolOptions

Value = TypeVar("Value")
UNIQUE = 20  # clips that are rendered; the rest are copies, which cost the same to decode
WIDTH, HEIGHT, FPS, SECONDS, RATE_HZ = 340, 256, 30, 10, 44_100
PUBLISHED_FPS, PUBLISHED_CLIPS = 8, 20
H264 = {"preset": "veryfast", "crf": "23", "g": "250"}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoders", choices=["demo", "base"], default="demo")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avcil-benchmark-") as folder:
        result = measure(Path(folder), asked)
    print(json.dumps(result))


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    """All figures of one run."""
    clips = render_clips(folder / "videos", asked.clips)
    base = asked.encoders == "base"
    options = ExtractOptions(
        visual_encoder="videomae-base" if base else "demo",
        audio_encoder="audiomae-base" if base else "demo",
        visual_weights="random" if base else None,
        audio_weights="random" if base else None,
        workers=asked.workers,
        batch=asked.batch,
        device=asked.device,
    )
    encoder = build_token_encoder(options)
    work = Preparation(encoder.recipe)
    batch = options.batch or (32 if encoder.device.type == "cuda" else 8)

    alone: dict[str, float] = {}
    seen: list[Progress] = []
    summary = extract(
        clips,
        folder / "cache",
        options,
        lambda now: seen.append(now) if now.done else None,
    )
    end_to_end = summary.done / summary.elapsed_s
    flowing = (summary.done - seen[0].done) / (summary.elapsed_s - seen[0].elapsed_s)
    print(f"end to end: {end_to_end:.2f} clips/s, {flowing:.2f} once started; {summary.verdict}")
    workers = summary.times.workers
    decode_s, (prepared, first_s) = clock(lambda: decode_all(clips, work, workers, batch))
    alone["decode"] = len(clips) / decode_s
    once_started = (len(clips) - 1) / (decode_s - first_s)
    tokens = encoder.encode(prepared)  # warm
    rounds = max(1, min(len(clips) // batch, 20))
    encode_s, _ = clock(lambda: [encoder.encode(prepared) for _ in range(rounds)])
    alone["encode"] = rounds * len(prepared) / encode_s
    ids = [f"{index}" for index in range(rounds * len(prepared))]
    with CacheWriter.open(
        folder / "written", encoder.info, [CacheClip(id, "x", "train") for id in ids]
    ) as writer:
        parts = [ids[start : start + len(prepared)] for start in range(0, len(ids), len(prepared))]

        def write() -> None:
            for part in parts:
                writer.write(part, tokens.visual, tokens.audio)

        write_s, _ = clock(write)
    alone["write"] = len(ids) / write_s
    slowest_once_started = min(once_started, alone["encode"], alone["write"])
    for stage, clips_per_s in alone.items():
        print(f"{stage} alone: {clips_per_s:.2f} clips/s")

    sample = clips[:PUBLISHED_CLIPS]
    published = {}
    for fps in (PUBLISHED_FPS, FPS):
        began_s = time.perf_counter()
        for clip in sample:
            published_shape(clip, folder, encoder.recipe, fps)
        published[fps] = len(sample) / (time.perf_counter() - began_s)
        print(f"published shape before the encoders, {fps} JPEG files a second: {published[fps]:.2f} clips/s")
    one_core_s, _ = clock(lambda: [work(clip) for clip in sample])
    return {
        "encoders": asked.encoders,
        "clips": len(clips),
        "workers": workers,
        "device": str(encoder.device),
        "clips_per_s": round(end_to_end, 3),
        "alone_clips_per_s": {stage: round(value, 2) for stage, value in alone.items()},
        "bound_by": summary.times.bound_by,
        "ratio_to_slowest_stage": round(end_to_end / min(alone.values()), 3),
        "ratio_to_slowest_stage_once_started": round(flowing / slowest_once_started, 3),
        "ratio_to_published_shape": round(alone["decode"] / published[PUBLISHED_FPS], 2),
        "ratio_once_started": round(once_started / published[PUBLISHED_FPS], 2),
        "ratio_every_frame_written": round(alone["decode"] / published[FPS], 2),
        "decode_ms_per_clip": round(1000 * one_core_s / len(sample), 1),
    }


def clock(work: Callable[[], Value]) -> tuple[float, Value]:
    """Seconds that `work` takes, and what it returns."""
    began_s = time.perf_counter()
    value = work()
    return time.perf_counter() - began_s, value


def decode_all(
    clips: list[Clip], work: Preparation, workers: int, batch: int
) -> tuple[list[PreparedClip], float]:
    """Prepare every clip in worker processes; the first batch, and seconds until the first clip was there."""
    kept: list[PreparedClip] = []
    began_s = time.perf_counter()
    first_s = 0.0
    with DecodePool(work, PoolOptions(workers, ready=batch)) as pool:
        for result in pool.run(clips):
            first_s = first_s or time.perf_counter() - began_s
            assert isinstance(result.value, PreparedClip), result.value
            if len(kept) < batch:
                kept.append(result.value)
    return kept, first_s


def published_shape(clip: Clip, folder: Path, recipe: Recipe, fps: int) -> PreparedClip:
    """One clip through files: WAV and `fps` JPEG frames a second written, 16 frames and the WAV read back."""
    frames_folder = folder / "jpeg"
    shutil.rmtree(frames_folder, ignore_errors=True)
    frames_folder.mkdir()
    with av.open(str(clip.path)) as media:
        count = 0
        for index, frame in enumerate(media.decode(video=0)):
            if index * fps // FPS >= count:
                write_jpeg(frames_folder / f"{count:04d}.jpg", frame)
                count += 1
    with av.open(str(clip.path)) as media:
        mono = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        blocks = [part.to_ndarray() for frame in media.decode(audio=0) for part in mono.resample(frame)]
    with wave.open(str(folder / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.concatenate(blocks, axis=1).tobytes())

    wanted = np.linspace(0, count - 1, 16).round().astype(int)
    frames = np.stack([read_jpeg(frames_folder / f"{index:04d}.jpg") for index in wanted])
    with wave.open(str(folder / "sound.wav"), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / np.float32(
            32768
        )
    return PreparedClip(resize_crop(frames, recipe.image_size), log_mel(samples[None], RATE_HZ, recipe))


def write_jpeg(path: Path, frame: av.VideoFrame) -> None:
    """Write one frame as a JPEG file of good quality."""
    with av.open(str(path), "w", format="mjpeg") as file:
        stream = file.add_stream("mjpeg", rate=1, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuvj420p"
        picture = frame.reformat(format="yuvj420p")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        file.mux(stream.encode(picture))
        file.mux(stream.encode())


def read_jpeg(path: Path) -> np.ndarray:
    """Read a JPEG file as [H, W, 3] uint8."""
    with av.open(str(path), format="mjpeg") as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def render_clips(folder: Path, count: int) -> list[Clip]:
    """Clips with moving texture and noise, so that they cost what real ones cost."""
    folder.mkdir(parents=True)
    clips = []
    for index in range(count):
        path = folder / f"{index:05d}.mp4"
        if index < UNIQUE:
            render(path, np.random.default_rng(index))
        else:
            shutil.copyfile(folder / f"{index % UNIQUE:05d}.mp4", path)
        clips.append(Clip(path.stem, path, "x", "train"))
    return clips


def render(path: Path, rng: np.random.Generator) -> None:
    """One clip of `SECONDS` seconds."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    grain = rng.integers(-12, 12, (HEIGHT, WIDTH, 3), dtype=np.int16)
    speed, colour = rng.uniform(1, 4), rng.uniform(60, 190, 3)
    with av.open(str(path), "w") as file:
        picture = file.add_stream("libx264", rate=FPS, options=H264)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = file.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for index in range(FPS * SECONDS):
            wave_ = 40 * np.sin((x + speed * index) / 23) + 30 * np.cos((y - speed * index) / 17)
            pixels = np.clip(colour + wave_[..., None] + np.roll(grain, index * 3, 1), 0, 255)
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            file.mux(picture.encode(frame))
        samples = rng.normal(0, 0.1, (2, RATE_HZ * SECONDS)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        block.sample_rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        file.mux(sound.encode(block))
        for stream in (picture, sound):
            file.mux(stream.encode())


if __name__ == "__main__":
    main()
