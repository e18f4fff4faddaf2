"""`safeplan train policy=image` and `safeplan sample`, in process, on an untrained tiny model."""

import json
from pathlib import Path

import pytest
import torch

from safeplan import build
from safeplan.cli.main import main
from safeplan.schema import GUIDANCE, GuidanceConfig, ModelConfig
from safeplan.training import save_model
from safeplan.training.classifier import classifier_from_set
from safeplan.training.image import image_from_set
from tests.synthetic_images import TINY, synthetic_set, write_mnist

SMALL = ("policy.width=8", "policy.levels=2", "policy.patch=4", "policy.head_width=8", "policy.batch=4")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    learner, _ = image_from_set(synthetic_set(), TINY)
    return str(save_model(tmp_path_factory.mktemp("w") / "image.safetensors", "image", *learner.export()))


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    err = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and len(err.splitlines()) == 1, err
    return err


def test_sample_writes_picture_and_record(capsys, elsewhere, weights):
    argv = ["sample", "model=mnist", f"model.weights={weights}", "n=6", "steps=2", "guidance.cfg.w=3", "device=cpu"]
    main(argv)
    out = capsys.readouterr().out.strip().splitlines()
    assert out[-1] == "results: runs/sample_mnist/seed_0/ (samples.png, trace.png, samples.json)"
    folder = elsewhere / "runs" / "sample_mnist" / "seed_0"
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((folder / "samples.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert record["chain"] == [{"method": "cfg", "w": 3.0, "sigma_min": 0.0, "sigma_max": "Infinity"}]
    assert record["nfe"] == {"mean": 6.0, "min": 6, "max": 6} and record["seconds"] > 0 and record["seed"] == 0
    assert record["labels"] == [0, 1, 2, 3, 0, 1] and {"torch", "diffusers"} <= set(record["made_with"])
    first = (folder / "samples.png").read_bytes()
    main(argv)
    assert (folder / "samples.png").read_bytes() == first


VEHICLES = ("energy", "barrier", "tube", "goal")


@pytest.mark.parametrize("name", [k for k in GUIDANCE if k not in VEHICLES])
def test_every_method_draws_images(name, elsewhere, weights, tmp_path):
    judge, _ = classifier_from_set(synthetic_set())
    critic = save_model(tmp_path / "c.safetensors", "classifier", *judge.export())
    base = ["sample", "model=mnist", f"model.weights={weights}", f"model.weak={weights}", f"model.classifier={critic}"]
    more = ["guidance.autoguidance.w=3"] if name == "autoguidance" else []
    main([*base, f"guidance={name}", "n=4", "steps=2", "device=cpu", *more])
    record = json.loads((elsewhere / "runs" / "sample_mnist" / "seed_0" / "samples.json").read_text())
    assert record["chain"][-1]["method"] == name and record["nfe"]["mean"] > 0


@pytest.mark.parametrize("schedule", ["sine", "unit"])
def test_elucd_may_follow_the_steps_of_the_run(schedule, elsewhere, weights, tmp_path):
    judge, _ = classifier_from_set(synthetic_set())
    critic = save_model(tmp_path / "c.safetensors", "classifier", *judge.export())
    base = ["sample", "model=mnist", f"model.weights={weights}", f"model.classifier={critic}", "device=cpu"]
    folder, pictures = elsewhere / "runs" / "sample_mnist" / "seed_0", []
    for extra in ([], [f"guidance.elucd.schedule={schedule}"]):
        main([*base, "guidance=elucd", "n=4", "steps=3", *extra])
        pictures.append((folder / "samples.png").read_bytes())
    assert json.loads((folder / "samples.json").read_text())["chain"][0]["schedule"] == schedule
    assert pictures[0] != pictures[1]


def test_cfgpp_may_refer_to_another_number_of_steps(elsewhere, weights):
    main(["sample", "model=mnist", f"model.weights={weights}", "guidance=cfgpp", "n=2", "steps=2", "device=cpu",
          "guidance.cfgpp.ref_steps=20"])  # fmt: skip
    record = json.loads((elsewhere / "runs" / "sample_mnist" / "seed_0" / "samples.json").read_text())
    assert record["chain"] == [{"method": "cfgpp", "lam": 0.6, "ref_steps": 20}]


def test_the_guidance_classifier_sees_the_range_that_it_was_trained_in(weights, tmp_path):
    judge, _ = classifier_from_set(synthetic_set())
    critic = save_model(tmp_path / "c.safetensors", "classifier", *judge.export())
    cfg = ModelConfig("mnist", weights, classifier=str(critic))
    made = build.artist(cfg, GuidanceConfig(["gfcg"]))
    (method,) = made.chain
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(method.classifier(x), build.classifier(cfg)(2 * x - 1))


def test_sample_refusals(capsys, elsewhere, weights, tmp_path):
    ours = f"model.weights={weights}"
    assert "images have none" in refused(capsys, "sample", ours, "guidance=energy")
    assert "Use model=mnist" in refused(capsys, "sample", ours, "model=fashion")
    assert "expected 0..3" in refused(capsys, "sample", ours, "labels=[5]")
    assert "Did you mean 'heun'" in refused(capsys, "sample", ours, "sampler=heum")
    assert "Did you mean 'mnist'" in refused(capsys, "sample", ours, "model=mnits")
    assert "safeplan train policy=image data=cifar10" in refused(capsys, "sample", "model=cifar10")
    learner, _ = classifier_from_set(synthetic_set())
    other = save_model(tmp_path / "c.safetensors", "classifier", *learner.export())
    assert "holds a Classifier, expected an image model" in refused(capsys, "sample", f"model.weights={other}")


def test_train_then_sample(capsys, elsewhere):
    write_mnist(elsewhere / "digits")
    data = ("data=mnist", "data.path=digits", "updates=2", "log_every=1", "device=cpu")
    main(["train", "policy=image", *data, *SMALL])
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("results: runs/train_image_mnist/seed_0/")
    main(["sample", "model.weights=runs/train_image_mnist/seed_0", "n=3", "steps=1", "guidance=none", "labels=[7]"])
    assert len(list(Path("runs").rglob("samples.png"))) == 1
    main(["train", "policy=classifier", *data, "policy.width=8"])
    capsys.readouterr()
    assert "use data=mnist|fashion|cifar10" in refused(capsys, "train", "policy=image", "data=hovercraft")
    assert "policy=fisor cannot learn from data=mnist" in refused(capsys, "train", "policy=fisor", "data=mnist")
