"""Every method on a tiny synthetic cache: it learns, resumes and classifies; switches do what they say."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import avcil
from avcil import cli
from avcil.cache import SyntheticSpec, TokenCache, write_synthetic_cache
from avcil.errors import ConfigError
from avcil.train.config import MethodConfig, NetworkConfig, ProtocolConfig, RunConfig, TrainingConfig
from avcil.train.methods import METHODS, find_method
from avcil.train.methods.method import Batch
from avcil.train.network import inference as predict
from avcil.train.plan import plan_run
from avcil.train.record.evaluation import evaluate_run
from avcil.train.record.run_folder import Run
from avcil.train.record.weights import load_classifier, load_network
from avcil.train.run import TrainProgress, train_run

ROOT = Path(avcil.__file__).resolve().parent
SPEC = SyntheticSpec(classes=6, train=8, val=2, test=3, time=2, space=3, width=24, separation=4.0)
CONFIG = RunConfig(
    protocol=ProtocolConfig(steps=3, memory=24),
    training=TrainingConfig(epochs=3, batch=8, exemplar_batch=6, learning_rate=3e-3, device="cpu"),
)
ONCE = replace(CONFIG.training, epochs=1)
# The published methods; those on statistics are tested in `statistics/`.
LOADED = {name: method for name in METHODS if (method := find_method(name)).by_settings is None}
PAIRS = [(name, modality) for name, method in LOADED.items() for modality in method.modalities]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    write_synthetic_cache(path, SPEC)
    return TokenCache(path)


def train(
    cache: TokenCache,
    out: Path,
    config: RunConfig = CONFIG,
    method: str = "avcil",
    settings: dict[str, Any] | None = None,
    **changed: Any,
) -> Run:
    asked = replace(config, method=MethodConfig(method, settings or {}), **changed)
    return train_run(plan_run(cache, asked), out)


def files(run: Run) -> dict[str, bytes]:
    return {
        str(p.relative_to(run.path)): p.read_bytes() for p in sorted(run.path.glob("step-*/*.safetensors"))
    }


def test_all_methods_of_the_paper_are_here() -> None:
    assert len(LOADED) == 9 and len(PAIRS) == 8 * 3 + 1


def test_the_table_names_the_methods_as_they_call_themselves() -> None:
    assert [find_method(name).name for name in METHODS] == list(METHODS)
    assert [method.title for method in LOADED.values()] == [
        *("fine-tuning", "LwF", "iCaRL-NME", "iCaRL-FC", "SS-IL", "AFC-NME", "AFC-LSC", "AV-CIL"),
        "upper bound",
    ]


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys, avcil.train.protocol_file as p; p.load_config('ave-ci'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("method", "modality", "fidelity"),
    [
        *((*pair, "released") for pair in PAIRS),
        *((name, method.modalities[0], "corrected") for name, method in LOADED.items()),
    ],
)
def test_a_run_is_trained_and_evaluated(
    method: str, modality: str, fidelity: str, cache: TokenCache, tmp_path: Path
) -> None:
    run = train(cache, tmp_path / "run", method=method, modality=modality, fidelity=fidelity)
    result = evaluate_run(run)  # classifies from the folder's files alone
    assert (result.method, result.modality, result.fidelity) == (method, modality, fidelity)
    assert result.accuracy[0] >= 0.5
    classifier = load_classifier(run, 2, torch.device("cpu"))
    assert bool(classifier.head.state()) == method.endswith("-nme")
    assert classifier.log_probabilities == (not method.endswith("-nme") and method != "afc-lsc")
    defaults = {key: value for key, value in run.facts.method_defaults.items() if value is not None}
    assert run.config.method == MethodConfig(method, defaults)


@pytest.mark.parametrize("method", ["icarl-nme", "afc-lsc"])
def test_herded_exemplars_survive_an_interruption(method: str, cache: TokenCache, tmp_path: Path) -> None:
    whole = train(cache, tmp_path / "whole", method=method)  # 3 steps of 3 epochs

    def stop(progress: TrainProgress) -> None:
        if (progress.step, progress.epoch) == (1, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan = plan_run(cache, replace(CONFIG, method=MethodConfig(method)))
        train_run(plan, tmp_path / "broken", on_progress=stop)
    resumed = train(cache, tmp_path / "broken", method=method)
    assert files(resumed) == files(whole)
    records = [[run.record(step) for step in range(3)] for run in (whole, resumed)]
    assert [r.kept for r in records[0]] == [r.kept for r in records[1]]
    assert all(
        before.kept == after.exemplars for before, after in zip(records[0], records[0][1:], strict=False)
    )


def test_a_budget_for_each_class(cache: TokenCache, tmp_path: Path) -> None:
    for method, steps in (("ss-il", (0, 2, 4)), ("icarl-fc", (0, 2, 4))):
        config = replace(CONFIG, protocol=ProtocolConfig(steps=3, memory_per_class=3))
        run = train(cache, tmp_path / method, config, method=method)
        sizes = [[len(ids) for ids in run.record(step).exemplars.values()] for step in range(3)]
        assert sizes == [[3] * classes for classes in steps]


def weights_after_first_update(cache: TokenCache, out: Path, method: str) -> dict[str, Tensor]:
    run = train(
        cache,
        out,
        method=method,
        fidelity="corrected",
        protocol=ProtocolConfig(steps=2, memory=24),
        training=replace(ONCE, batch=1000, exemplar_batch=1000, select="last", weight_decay=0.0),
    )
    return dict(load_network(run, 1, torch.device("cpu")).state_dict())


@pytest.mark.parametrize("method", ["lwf", "icarl-fc", "ss-il", "avcil", "afc-lsc"])
def test_the_first_update_of_a_step_is_exact(
    method: str, cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How the teacher was computed (here: clip by clip) must not decide the sign of a full Adam step."""

    def largest_difference(name: str) -> float:
        monkeypatch.setattr(predict, "CLIPS_PER_PASS", 64)
        one = weights_after_first_update(cache, tmp_path / f"{name}-64", method)
        monkeypatch.setattr(predict, "CLIPS_PER_PASS", 1)
        other = weights_after_first_update(cache, tmp_path / f"{name}-1", method)
        return max(float((one[key] - other[key]).abs().max()) for key in one)

    assert largest_difference("exact") < 1e-4  # a full step is 3e-3
    if method == "lwf":  # old rows have no other gradient there than that of the distillation
        monkeypatch.setattr(Batch, "against_teacher", lambda self, term: term)
        assert largest_difference("noise") > 1e-3


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("instance_term", {"instance"}),
        ("class_term", {"class"}),
        ("spatial_term", {"spatial"}),
        ("temporal_term", {"temporal"}),
        ("distillation_term", {"distillation"}),
        ("separated_cross_entropy", set()),
    ],
)
def test_ablations_of_avcil(switch: str, gone: set[str], cache: TokenCache, tmp_path: Path) -> None:
    two_steps = replace(CONFIG, protocol=ProtocolConfig(steps=2, memory=24), training=ONCE)
    whole = train(cache, tmp_path / "whole", two_steps).record(1).epochs[0].terms
    run = train(cache, tmp_path / "run", two_steps, settings={switch: False})
    ablated = run.record(1).epochs[0].terms
    assert set(whole) - set(ablated) == gone
    assert (ablated["cross_entropy"] != whole["cross_entropy"]) or gone


def test_the_published_joint_cross_entropy_is_for_released_only(cache: TokenCache, tmp_path: Path) -> None:
    def first_loss(fidelity: str, joint: bool) -> float:
        two_steps = replace(CONFIG, protocol=ProtocolConfig(steps=2, memory=24), training=ONCE)
        out, settings = tmp_path / f"{fidelity}-{joint}", {"joint_cross_entropy_at_step_1": joint}
        run = train(cache, out, two_steps, "ss-il", settings, modality="audio", fidelity=fidelity)
        return run.record(1).epochs[0].loss

    separated = first_loss("released", False)
    assert first_loss("corrected", True) == separated != first_loss("released", True)


def test_without_attention_tokens_are_averaged(cache: TokenCache, tmp_path: Path) -> None:
    run = train(cache, tmp_path / "run", network=NetworkConfig(attention=False))
    assert {"spatial", "temporal"}.isdisjoint(run.record(1).epochs[0].terms)
    network = load_network(run, 2, torch.device("cpu"))
    assert not hasattr(network, "visual_attention")
    visual = torch.randn(2, 2, 3, 24)
    output = network(torch.randn(2, 24), visual)
    assert output.attended is None
    assert torch.equal(output.pooled, visual.double().mean(dim=(1, 2)).float())
    assert evaluate_run(run).accuracy[0] > 0.5


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "icarl"}, "'icarl' is unknown; choose one of finetune, lwf, icarl-nme, .*module:NAME"),
        ({"method": "nowhere:X"}, "--method nowhere:X: cannot import 'nowhere'"),
        ({"method": "math:pie"}, "'math' has no 'pie'"),
        ({"method": "math:pi"}, "it is a float, not a Method"),
        ({"method": "ss-il", "protocol": ProtocolConfig(steps=3, memory=3)}, "each of 4 classes"),
        ({"method": "icarl-nme", "protocol": ProtocolConfig(steps=3, memory=5)}, "each of 6 classes"),
        (
            {"method": "icarl-nme", "protocol": ProtocolConfig(steps=1, memory_per_class=0)},
            "--memory-per-class",
        ),
    ],
)
def test_what_cannot_be_trained_is_said(
    changed: dict[str, Any], words: str, cache: TokenCache, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        train(cache, tmp_path / "run", **changed)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_module_that_leaves_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot import 'leaves' \(SystemExit: 0\)"):
        find_method("leaves:X")


@pytest.fixture
def from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.usefixtures("from_the_root")
def test_the_example_method_goes_all_the_way(
    cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method = "examples.nearest_class_mean:NEAREST_CLASS_MEAN"
    options = ["--steps", "3", "--epochs", "3", "--device", "cpu", "--method", method]
    run = tmp_path / "run"
    for command in (["train", str(cache.path), "--out", str(run), *options], ["eval", str(run)]):
        monkeypatch.setattr(sys, "argv", ["avcil", *command])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code, capsys.readouterr().err
    done = Run.open(run)
    assert [len(done.record(step).epochs) for step in range(3)] == [3, 0, 0]
    heads = [load_classifier(done, step, torch.device("cpu")).head.state() for step in range(3)]
    assert [len(kept["means"]) for kept in heads] == [2, 4, 6]
    assert done.config.method == MethodConfig(method, {"shrinkage": 0.0})
    result = evaluate_run(done)
    assert result.last_accuracy > 2 / 6
    assert find_method(method).name == "nearest-class-mean"
