"""Runs on a tiny synthetic cache: what is trained, kept, resumed and refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.small_disk import small_disk

from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.errors import ConfigError, RunError
from avcil.train.config import MethodConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.draws import Draws
from avcil.train.loop import epoch_batches
from avcil.train.network.layers import LinearLayer
from avcil.train.network.model import NetworkShape
from avcil.train.plan import plan_run
from avcil.train.record.evaluation import evaluate_run
from avcil.train.record.run_folder import FORMAT, Run
from avcil.train.record.weights import load_classifier, save_step
from avcil.train.run import TrainProgress, train_run
from avcil.train.tokens.batches import ResidentTokens, StepClips

SPEC = SyntheticSpec(classes=6, train=10, val=3, test=4, time=4, space=4, width=64, separation=4.0)
CONFIG = RunConfig(
    protocol=ProtocolConfig(steps=3, memory=24),
    training=TrainingConfig(epochs=12, batch=8, exemplar_batch=6, device="cpu"),
)
ONCE = replace(CONFIG, training=replace(CONFIG.training, epochs=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


def train(cache: TokenCache, out: Path, config: RunConfig = CONFIG) -> Run:
    return train_run(plan_run(cache, config), out)


def weights(run: Run) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.path.glob("step-*/model.safetensors"))]


def test_avcil_learns_and_keeps(cache: TokenCache, tmp_path: Path) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=40))
    result = evaluate_run(train(cache, tmp_path / "run", config))
    fallen = evaluate_run(
        train(cache, tmp_path / "finetune", replace(config, method=MethodConfig("finetune")))
    )
    assert result.accuracy[0] >= 0.75
    assert result.last_accuracy > fallen.last_accuracy + 0.15
    assert fallen.average_forgetting is not None and fallen.average_forgetting > 0.5


@pytest.mark.parametrize("modality", ["audio-visual", "audio", "visual"])
def test_upper_bound_beats_chance_in_every_modality(modality: str, cache: TokenCache, tmp_path: Path) -> None:
    config = replace(CONFIG, method=MethodConfig("upper-bound"), modality=modality)
    config = replace(config, training=replace(config.training, epochs=40))
    result = evaluate_run(train(cache, tmp_path / "run", config))
    assert result.last_accuracy > 2 / 6
    assert (result.method, result.modality) == ("upper-bound", modality)


def test_an_interrupted_run_ends_like_an_uninterrupted_one(cache: TokenCache, tmp_path: Path) -> None:
    whole = train(cache, tmp_path / "whole")

    def stop(progress: TrainProgress) -> None:
        if (progress.step, progress.epoch) == (1, 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(plan_run(cache, CONFIG), tmp_path / "broken", on_progress=stop)
    assert Run.open(tmp_path / "broken").steps_done == 1
    resumed = train(cache, tmp_path / "broken")
    assert weights(resumed) == weights(whole) and len(weights(whole)) == 3
    assert evaluate_run(resumed) == evaluate_run(whole)


def test_seeds_matter_and_nothing_else_does(cache: TokenCache, tmp_path: Path) -> None:
    one, again = train(cache, tmp_path / "one"), train(cache, tmp_path / "again")
    other = train(cache, tmp_path / "other", replace(CONFIG, training=replace(CONFIG.training, seed=43)))
    assert weights(one) == weights(again) != weights(other)


def test_a_run_is_not_mixed_with_another(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    before = weights(run)
    with pytest.raises(RunError, match=r"training\.epochs \(13 against 12\)"):
        train(cache, tmp_path / "run", replace(CONFIG, training=replace(CONFIG.training, epochs=13)))
    write_synthetic_cache(tmp_path / "cache", replace(SPEC, seed=1))
    with pytest.raises(RunError, match="tokens or labels of the cache"):
        train(TokenCache(tmp_path / "cache"), tmp_path / "run")
    assert weights(run) == before


def test_only_one_process_trains_a_run(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    (tmp_path / "run" / ".step-02.partial-1").mkdir()
    with run.writing():
        assert not list((tmp_path / "run").glob(".*"))
        with pytest.raises(RunError, match="by another process"):
            train(cache, tmp_path / "run")
    assert train(cache, tmp_path / "run").steps_done == 3


def test_a_later_step_without_its_earlier_one_is_refused(cache: TokenCache, tmp_path: Path) -> None:
    train(cache, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "step-01")
    with pytest.raises(RunError, match="step-01 is missing but step-02 is there; delete step-02"):
        train(cache, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "step-02")
    assert train(cache, tmp_path / "run").steps_done == 3


def test_a_diverging_run_stops_by_name(cache: TokenCache, tmp_path: Path) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, learning_rate=1e30))
    with pytest.raises(RunError, match=r"cross entropy term became (nan|inf) in epoch \d+"):
        train(cache, tmp_path / "run", config)
    assert Run.open(tmp_path / "run").steps_done == 0


def test_a_moved_cache_is_found_again(cache: TokenCache, tmp_path: Path) -> None:
    shutil.copytree(cache.path, tmp_path / "before")
    run = train(TokenCache(tmp_path / "before"), tmp_path / "run")
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(RunError, match=r"no longer at .* --cache"):
        evaluate_run(run)
    result = evaluate_run(run, [tmp_path / "after"])
    assert evaluate_run(train(TokenCache(tmp_path / "after"), tmp_path / "run")) == result


@pytest.mark.parametrize("text", ["[]", "{}", "not json", '{"step": 2}'])
def test_a_damaged_record_is_named(text: str, cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    (tmp_path / "run" / "step-02" / "record.json").write_text(text)
    with pytest.raises(RunError, match="step-02 cannot be read"):
        evaluate_run(run)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("run.json", {"step_sizes": []}),
        ("run.json", {"step_sizes": [2, 2, "2"]}),
        ("run.json", {"step_sizes": [2, -2, 6]}),
        ("run.json", {"classes": ["only"]}),
        ("run.json", {"caches": []}),
        ("step-02/record.json", {"predicted": [0]}),
        ("step-02/record.json", {"predicted": [9] * 24}),
        ("step-02/record.json", {"true": [0] * 24}),
        ("step-02/record.json", {"true": None}),
        ("step-02/record.json", {"step": 1}),
        ("step-02/record.json", {"best_epoch": 5}),
        ("step-02/record.json", {"kept": {"no class": []}}),
        ("step-02/record.json", {"network": {"audio_width": 10**9}}),
        ("step-02/record.json", {"head": ["class_means"]}),
    ],
)
def test_records_that_contradict_themselves_are_named(
    file: str, changed: dict[str, object], cache: TokenCache, tmp_path: Path
) -> None:
    run = train(cache, tmp_path / "run", ONCE)
    path = run.path / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(RunError, match="cannot be read"):
        evaluate_run(Run.open(run.path))
    with pytest.raises(RunError, match="cannot be read"):
        train(cache, run.path, ONCE)


def test_what_a_method_kept_is_missed(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run", replace(ONCE, method=MethodConfig("icarl-nme")))
    (run.path / "step-01" / "head.safetensors").unlink()
    with pytest.raises(RunError, match="step-01 cannot be read"):
        evaluate_run(run)


def test_a_shape_without_its_tensors_takes_no_memory(cache: TokenCache, tmp_path: Path) -> None:
    """Record and facts agree on a width of 65 536, for which the network would take 51 GB."""
    path = train(cache, tmp_path / "run", ONCE).path
    facts, record = path / "run.json", path / "step-02" / "record.json"
    table = json.loads(facts.read_text())
    for tokens in ("audio", "visual"):
        table["tokens"][tokens]["shape"][-1] = 2**16
    facts.write_text(json.dumps(table))
    table = json.loads(record.read_text())
    table["network"] |= {"audio_width": 2**16, "visual_width": 2**16}
    record.write_text(json.dumps(table))
    with pytest.raises(RunError, match=r"audio_projection.weight is \[\d+, \d+\], expected \[65536, 65536\]"):
        load_classifier(Run.open(path), 2, torch.device("cpu"))


def test_a_head_that_cannot_classify_is_named(cache: TokenCache, tmp_path: Path) -> None:
    path = train(cache, tmp_path / "run", replace(ONCE, method=MethodConfig("icarl-nme"))).path
    kept = path / "step-02" / "head.safetensors"
    means = safetensors.torch.load_file(kept)["class_means"]
    for changed, words in (
        ({"class_means": means[:, 1:].contiguous()}, "the tensors cannot classify"),
        ({"class_means": means[1:].contiguous()}, "scores [1, 5] for 6 classes"),
        ({"other": means}, "holds ['other'], record.json names ['class_means']"),
    ):
        safetensors.torch.save_file(changed, kept)
        with pytest.raises(RunError, match="step-02 cannot be read") as refused:
            load_classifier(Run.open(path), 2, torch.device("cpu"))
        assert words in str(refused.value)


def test_a_configuration_of_other_steps_is_refused(cache: TokenCache, tmp_path: Path) -> None:
    path = train(cache, tmp_path / "run", ONCE).path
    config = path / "config.toml"
    config.write_text(config.read_text().replace("steps = 3", "steps = 2"))
    with pytest.raises(RunError, match=r"config\.toml asks for other classes or steps than run\.json"):
        evaluate_run(Run.open(path))


def test_results_are_those_of_the_records_whatever_the_file_says(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run", ONCE)
    written = (run.path / "results.json").read_bytes()
    result = run.results
    assert json.loads(written)["matrix"] == result.matrix
    (run.path / "results.json").write_text("{}")
    assert Run.open(run.path).results == result == evaluate_run(run)
    assert (
        train(cache, run.path, ONCE).steps_done == 3 and (run.path / "results.json").read_bytes() == written
    )


@pytest.mark.parametrize("found", [None, 1, 99])
def test_a_run_of_another_format_is_refused(found: int | None, cache: TokenCache, tmp_path: Path) -> None:
    path = train(cache, tmp_path / "run", ONCE).path
    table = json.loads((path / "run.json").read_text())
    assert table.pop("format") == FORMAT
    (path / "run.json").write_text(json.dumps(table | ({} if found is None else {"format": found})))
    with pytest.raises(RunError, match=rf"run format {found or 1}, this one has {FORMAT}\); train again"):
        Run.open(path)
    with pytest.raises(RunError, match="another version of avcil"):
        train(cache, path, ONCE)


def test_a_full_disk_loses_nothing(cache: TokenCache, tmp_path: Path) -> None:
    with small_disk(20_000), pytest.raises(OSError, match="File too large"):  # the weights do not fit
        train(cache, tmp_path / "run", ONCE)
    assert Run.open(tmp_path / "run").steps_done == 0 and not list((tmp_path / "run").glob(".*"))
    assert train(cache, tmp_path / "run", ONCE).steps_done == 3


def test_a_foreign_folder_is_left_alone(cache: TokenCache, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not a run"):
        train(cache, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(CONFIG, method=MethodConfig("avcill")), "avcill"),
        (replace(CONFIG, method=MethodConfig("avcil", {"lambda_instnce": 1.0})), "'method.lambda_instance'"),
        (replace(CONFIG, method=MethodConfig("avcil", {"lambda_attention": 2.0})), "between 0 and 1"),
        (replace(CONFIG, method=MethodConfig("finetune", {"lambda_instance": 1.0})), "none here"),
        (replace(CONFIG, modality="audio"), "no modality 'audio'"),
        (replace(CONFIG, protocol=ProtocolConfig(steps=7)), "7 steps"),
        (replace(CONFIG, protocol=ProtocolConfig(steps=3, memory=3)), "larger --memory"),
        (replace(CONFIG, training=replace(CONFIG.training, device="tpu9")), "device 'tpu9'"),
    ],
)
def test_a_bad_configuration_writes_nothing(
    config: RunConfig, words: str, cache: TokenCache, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(cache, tmp_path / "run", config)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_needs_a_finished_run(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "step-02")
    with pytest.raises(RunError, match="2 of 3 steps"):
        evaluate_run(run)


def test_evaluation_notices_other_weights(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    classifier = load_classifier(run, 2, torch.device("cpu"))
    torch.nn.init.zeros_(classifier.network.classifier.weight)
    record = run.record(2)
    shutil.rmtree(tmp_path / "run" / "step-02")
    save_step(run, classifier, record)
    with pytest.raises(RunError, match="predictions of step 2 differ"):
        evaluate_run(run)


def test_records_name_the_exemplars(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run")
    assert [sum(map(len, run.record(step).exemplars.values())) for step in range(3)] == [0, 20, 24]
    known = {clip.id for clip in cache.present("train")}
    assert all(set(ids) <= known for ids in run.record(2).exemplars.values())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["cache_fingerprint"] == cache.fingerprint and "torch" in facts["environment"]["versions"]


def test_exemplar_batches_come_round_again() -> None:
    none = ResidentTokens(None, None)
    current, exemplars = StepClips(none, torch.arange(11)), StepClips(none, torch.arange(100, 107))
    config = TrainingConfig(batch=2, exemplar_batch=3)
    batches = list(epoch_batches(Draws(0), 1, 0, current, exemplars, config))
    chunks = [tuple(batch.exemplars.tolist()) for batch in batches]
    assert len(batches) == 5 and all(len(batch.labels) == 5 for batch in batches)
    assert chunks[0] == chunks[2] == chunks[4] != chunks[1] == chunks[3]
    assert len({int(row) for batch in batches for row in batch.current}) == 10


def test_audio_and_visual_tokens_may_differ_in_width() -> None:
    network = Draws(0).network(0, NetworkShape("audio-visual", 6, 10, 3), LinearLayer)
    output = network(torch.randn(2, 6), torch.randn(2, 4, 5, 10))
    assert output.logits.shape == (2, 3)
    assert output.attended is not None and output.attended.pooled.shape == (2, 10)


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Draws(0).network(0, NetworkShape("audio", 4, 4, 2), LinearLayer)
    Draws(0).new_layer(1, LinearLayer, 4, 2)
    assert torch.rand(1) == expected
