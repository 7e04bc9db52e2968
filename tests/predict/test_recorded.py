"""Finding the encoders of recorded tokens: what is found by itself, and which file is asked for by name."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.weight_files import AUDIO, VIDEO, audiomae_file, audiomae_state, videomae_folder, videomae_state

from avcil.cache import CacheInfo, WeightsOrigin
from avcil.errors import EncoderError
from avcil.extract.encoders import videomae as videomae_module
from avcil.extract.encoders.audiomae import audiomae
from avcil.extract.encoders.registry import ENCODERS
from avcil.extract.encoders.videomae import videomae
from avcil.extract.engine import ExtractOptions, build_token_encoder
from avcil.predict.recorded import EncoderSource, build_recorded_encoder

GIVEN = EncoderSource()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS["visual"], "small", partial(videomae, VIDEO))
    monkeypatch.setitem(ENCODERS["audio"], "small", partial(audiomae, AUDIO))


def recorded(**options: str) -> CacheInfo:
    return build_token_encoder(ExtractOptions("small", "small", device="cpu", **options)).info  # type: ignore[arg-type]


def test_random_weights_are_found_by_themselves(small: None) -> None:
    info = recorded(visual_weights="random", audio_weights="random", recipe="released-ave", tokens="int8")
    built = build_recorded_encoder(info, GIVEN, GIVEN, "cpu")
    assert built.info == info and built.recipe.frame_fps == 10


def test_files_are_asked_for_by_their_hash(small: None, tmp_path: Path) -> None:
    right, other = videomae_folder(tmp_path / "right"), tmp_path / "other"
    audio = audiomae_file(tmp_path / "audio.pth", audiomae_state())
    info = recorded(visual_weights=right, audio_weights=audio)
    sha256 = hashlib.sha256((tmp_path / "right" / "model.safetensors").read_bytes()).hexdigest()
    assert info.visual_encoder.weights.sha256 == sha256
    with pytest.raises(EncoderError, match=rf"small weights with sha256 {sha256} .*--visual-weights"):
        build_recorded_encoder(info, GIVEN, GIVEN, "cpu")
    videomae_folder(other, {key: 2 * value for key, value in videomae_state().items()})
    with pytest.raises(
        EncoderError, match=r"folder right\), not from small, .*folder other.*--visual-weights"
    ):
        build_recorded_encoder(info, EncoderSource(weights=str(other)), GIVEN, "cpu")
    with pytest.raises(EncoderError, match=r"audio tokens came from small .*--audio-weights"):
        build_recorded_encoder(info, EncoderSource(weights=right), GIVEN, "cpu")
    built = build_recorded_encoder(info, EncoderSource(weights=right), EncoderSource(weights=audio), "cpu")
    assert built.info == info


def test_a_name_on_the_hub_is_fetched_at_its_commit(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    info = recorded(visual_weights="random", audio_weights="random")
    origin = WeightsOrigin("hub", "VideoMAE, Hugging Face folder", repository="owner/name", commit="abc")
    info = replace(info, visual_encoder=replace(info.visual_encoder, weights=origin))
    asked = []

    def locate(weights: str, *, with_config: bool) -> None:
        asked.append(weights)
        raise EncoderError("offline")

    monkeypatch.setattr(videomae_module, "locate", locate)
    with pytest.raises(EncoderError, match="offline"):
        build_recorded_encoder(info, GIVEN, GIVEN, "cpu")
    assert asked == ["owner/name@abc"]


def test_an_encoder_of_ones_own_is_asked_for_by_name(small: None) -> None:
    info = recorded(visual_weights="random", audio_weights="random")
    info = replace(info, visual_encoder=replace(info.visual_encoder, name="clip-b32"))
    with pytest.raises(EncoderError, match=r"'clip-b32'.*--visual-encoder package\.module:factory"):
        build_recorded_encoder(info, GIVEN, GIVEN, "cpu")


def test_half_precision_falls_back_where_there_is_no_gpu(small: None) -> None:
    info = replace(recorded(visual_weights="random", audio_weights="random"), precision="fp16")
    assert build_recorded_encoder(info, GIVEN, GIVEN, "cpu").info.precision == "fp32"
