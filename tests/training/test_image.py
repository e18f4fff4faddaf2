"""Image model and classifier as learners: exact resume, loss and dropout, what a checkpoint restores."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safeplan.diffusion import denoising_loss
from safeplan.errors import CheckpointError
from safeplan.imaging import Classifier, ClassifierConfig, ImageModel, to_unit
from safeplan.rng import torch_rng
from safeplan.training import load, load_model, save_model, train
from safeplan.training.classifier import classifier_from_set
from safeplan.training.image import ImageLearner, facts_of, image_from_set
from tests.synthetic_images import TINY, synthetic_set

SMALL = ClassifierConfig(width=8, batch=16, warmup=1, lr=3e-3)


def go(run: Path, updates: int, kind: str = "image", seed: int = 0, config=None) -> Path:
    make, default = {"image": (image_from_set, TINY), "classifier": (classifier_from_set, SMALL)}[kind]
    learner, source = make(synthetic_set(), config or default, seed=seed)
    return train(learner, source, run, updates=updates, seed=seed, checkpoint_every=3, log_every=2)


def states(folder: Path) -> list[torch.Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)["learner"]
    return [v for k in ("net", "ema") for v in state.get(k, {}).values()]


@pytest.mark.parametrize("kind", ["image", "classifier"])
def test_two_and_on_to_five_is_five(tmp_path, kind):
    whole = go(tmp_path / "whole", 5, kind)
    go(tmp_path / "run", 2, kind)
    torch.manual_seed(99)  # global random numbers play no part
    last = go(tmp_path / "run", 5, kind)
    one, two = states(whole), states(last)
    assert len(one) == len(two) > 4 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    a, b = load_model(whole), load_model(last)
    assert a.meta == b.meta and all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    with pytest.raises(CheckpointError, match="other settings"):
        go(tmp_path / "run", 6, kind, config=replace(TINY if kind == "image" else SMALL, lr=0.5))


def test_checkpoint_restores_the_ema_and_what_it_draws(tmp_path):
    learner, source = image_from_set(synthetic_set(), TINY)
    for i in range(3):
        learner.update(source.batch(i, 0), torch_rng(0, "update", i))
    path = save_model(tmp_path / "m.safetensors", "image", *learner.export())
    model = load(path)
    assert isinstance(model, ImageModel) and (model.name, model.classes) == ("mnist", ("a", "b", "c", "d"))
    assert model.denoiser.sigma_data == facts_of(synthetic_set())["sigma_data"]
    mine = ImageModel(learner.ema, "mnist", model.classes, 1, "edm", model.denoiser.sigma_data)
    assert torch.equal(model.sample([0, 3], steps=2).images, mine.sample([0, 3], steps=2).images)
    tensors, meta = learner.export()
    half = load(save_model(tmp_path / "h.safetensors", "image", {k: v.half() for k, v in tensors.items()}, meta))
    drawn = half.sample([0, 3], steps=2).images
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, model.sample([0, 3], steps=2).images, rtol=0.05, atol=0.05)
    meta["image"]["width"] = 16
    with pytest.raises(CheckpointError, match="does not fit"):
        load(save_model(tmp_path / "w.safetensors", "image", tensors, meta))


@pytest.mark.parametrize("predict", ["edm", "v"])
def test_loss_falls(predict):
    learner, source = image_from_set(synthetic_set(), replace(TINY, predict=predict, batch=16, lr=3e-3))
    batch = source.batch(99, 0)

    @torch.no_grad()
    def loss() -> float:  # of one batch, with one draw of times and noise
        x0, cond = to_unit(batch["images"]), {"label": batch["labels"]}
        return float(denoising_loss(learner.denoiser, x0, cond, None, torch_rng(1)))

    before = loss()
    for i in range(20):
        learner.update(source.batch(i, 0), torch_rng(0, "u", i))
    assert loss() < 0.93 * before


def test_label_dropout_trains_the_null_vector():
    def moved(drop: float) -> list[bool]:
        learner, source = image_from_set(synthetic_set(), replace(TINY, drop=drop, batch=16))
        torch.nn.init.normal_(learner.net.unet.conv_out.weight, std=0.1)
        learner.update(source.batch(0, 0), torch_rng(0))
        grad = learner.net.unet.class_embedding.weight.grad
        return (grad.abs().amax(1) > 0).tolist()

    assert moved(0.0) == [True] * 4 + [False]
    assert moved(0.9)[-1]


def test_bf16_is_near_float32():
    def loss(bf16: bool) -> float:
        learner, source = image_from_set(synthetic_set(), replace(TINY, bf16=bf16))
        torch.nn.init.normal_(learner.net.unet.conv_out.weight, std=0.1)
        return float(learner.update(source.batch(0, 0), torch_rng(0))["loss"])

    assert loss(True) == pytest.approx(loss(False), rel=0.1) and loss(True) != loss(False)


def test_classifier_learns_the_synthetic_classes(tmp_path):
    net = load(go(tmp_path, 60, "classifier"))
    test = synthetic_set(seed=1)
    features, probabilities = net.apply_to(torch.from_numpy(test.images), batch=7)
    assert isinstance(net, Classifier) and features.shape == (40, 32)
    assert (probabilities.argmax(1) == torch.from_numpy(test.labels)).float().mean() > 0.9
    torch.testing.assert_close(probabilities.sum(1), torch.ones(40))


def test_seeds_give_other_nets():
    facts = facts_of(synthetic_set())
    a, b = (ImageLearner(facts, TINY, seed=s).net.unet.conv_in.weight for s in (0, 1))
    assert not torch.equal(a, b)
