"""The image model under the shared guidance core: samples, seeds, chains, networks; the picture."""

import pytest
import torch

from safeplan.diffusion import Branch
from safeplan.errors import CapabilityError, ConfigError, DataError, ShapeError
from safeplan.guidance import CFG, GFCG, Energy
from safeplan.imaging import UNLABELLED, ImageModel, balanced
from safeplan.imaging.grid import CAPTION, GAP, SCALE, save_grid
from tests.synthetic_images import tiny_model


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """To rounding, which other batch shapes change; what an untrained net draws is large."""
    return bool((a - b).abs().max() < 1e-4 * a.abs().max())


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return tiny_model()


def test_rows_depend_on_label_seed_and_place_alone(model):
    labels = [0, 1, 2, 3, 0]
    a = model.sample(labels, (CFG(3.0),), steps=3, seed=1)
    b = model.sample(labels, (CFG(3.0),), steps=3, seed=1, batch=2)
    assert close(a.images, b.images)
    assert a.images.shape == (5, 1, 32, 32) and a.labels.tolist() == labels
    assert not torch.allclose(a.images[0], a.images[4])
    assert not torch.allclose(a.images, model.sample(labels, (CFG(3.0),), steps=3, seed=2).images)


def test_evaluations_are_counted_per_sample(model):
    done = []
    plain = model.sample([0, 1, 2], steps=4, progress=done.append)
    assert plain.nfe.tolist() == [7, 7, 7] and sum(done) == 12  # Heun: two a step but the last
    assert model.sample([0, 1], (CFG(2.0),), steps=4, sampler="euler").nfe.tolist() == [8, 8]


@pytest.mark.parametrize("predict", ["edm", "v"])
def test_w_1_is_the_conditional_and_w_0_the_null_model(predict):
    model = tiny_model(predict)
    cond = model.sample([0, 3], steps=3)
    assert close(model.sample([0, 3], (CFG(1.0),), steps=3).images, cond.images)
    null = model.sample([0, 3], (CFG(0.0),), steps=3).images
    assert close(null, model.sample([2, 1], (CFG(0.0),), steps=3).images) and not close(null, cond.images)


def test_images_without_a_label_are_those_of_the_null_model(model):
    null = model.sample([2, 1], (CFG(0.0),), steps=3).images
    none = model.sample([UNLABELLED, UNLABELLED], steps=3)
    assert close(none.images, null) and none.labels.tolist() == [-1, -1] and none.nfe.tolist() == [5, 5]
    mixed = model.sample([UNLABELLED, 3], (CFG(4.0),), steps=3).images  # where both branches agree, CFG does nothing
    assert close(mixed[:1], null[:1]) and not close(mixed[1:], null[1:])
    with pytest.raises(CapabilityError, match="GFCG asks a classifier about the label"):
        model.sample([0, UNLABELLED], (GFCG(lambda x: x.flatten(1)[:, :4]),), steps=3)
    with pytest.raises(CapabilityError, match="CFG compares with and without the label, and no image has one"):
        model.sample([UNLABELLED], (CFG(4.0),), steps=3)


def test_images_that_are_not_finite_are_refused(model):
    with pytest.raises(DataError, match="sample: 1 of 2 images are not finite"):
        model.sample([0, 1], (CFG(torch.tensor([2.0, 1e38])),), steps=3)


def test_bfloat16_is_near_and_stays_in_the_network(model):
    full, half = (model.sample([0, 1], steps=3, bf16=b).images for b in (False, True))
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    assert (full - half).square().mean() < 1e-3 * full.square().mean()


def test_perturbed_attention_rides_the_same_forward(model):
    pag = CFG(3.0, reference=Branch(perturb=("pag",)))
    calls = []
    handle = model.net.register_forward_hook(lambda *_: calls.append(1))
    out = model.sample([0, 1], (CFG(2.0), pag), steps=2, sampler="euler")
    handle.remove()
    assert len(calls) == 2 and out.nfe.tolist() == [6, 6]
    only = model.sample([0, 1], (CFG(2.0),), steps=2, sampler="euler")
    assert not close(out.images, only.images)


def test_a_weak_network_of_the_same_kind_can_be_the_reference(model):
    auto = CFG(2.0, reference=Branch(net="weak"))
    same = model.sample([0, 1], (auto,), steps=2, networks={"weak": model})
    assert close(same.images, model.sample([0, 1], steps=2).images)  # a net against itself: nothing
    with pytest.raises(CapabilityError, match="net:weak"):
        model.sample([0, 1], (auto,), steps=2)
    other = ImageModel(model.net, "fashion", ("x",), 1, "edm", 0.5)
    with pytest.raises(ShapeError, match="draws fashion, expected mnist"):
        model.sample([0, 1], (auto,), steps=2, networks={"weak": other})


@pytest.mark.parametrize("metric", ["identity", "posterior"])
def test_energies_see_intensities_in_0_1(model, metric):
    """The posterior metric pulls the gradient back through the network, attention included."""
    seen = []

    def dark(x):
        seen.append(x.detach())
        return x.flatten(1).mean(1)

    bright = model.sample([0], steps=3, sampler="euler").images.mean()
    steered = model.sample([0], (Energy(dark, scale=300.0, metric=metric),), steps=3, sampler="euler").images.mean()
    assert abs(steered - bright) > 1e-3 and all(s.shape == (1, 1, 32, 32) for s in seen)
    assert metric == "posterior" or steered < bright  # an untrained net may turn the gradient around


def test_refusals(model):
    with pytest.raises(ConfigError, match="dpmpp_2m"):
        model.sample([0], sampler="plms")
    with pytest.raises(ShapeError, match=r"labels lie in 0..7, expected 0..3, or -1 for none"):
        model.sample([0, 7])
    for labels, batch in (([], 4), ([0], 0)):
        with pytest.raises(ConfigError, match="at least one"):
            model.sample(labels, batch=batch)


def test_balanced_labels():
    assert balanced(5, 3) == [0, 1, 2, 0, 1] and balanced(3, 10, [4, 7]) == [4, 7, 4]


def test_grid_shows_each_image_under_its_name(tmp_path):
    import numpy as np
    from PIL import Image

    x = torch.full((3, 3, 32, 32), -1.0)
    x[2, 0] = 1.0  # red
    path = save_grid(tmp_path / "a" / "s.png", x, ["a", "b", "c"], columns=2)
    with Image.open(path) as png:
        sheet = np.asarray(png)
    assert sheet.shape == (2 * (SCALE * 32 + GAP + CAPTION) + GAP, 2 * (SCALE * 32 + GAP) + GAP, 3)
    top = GAP + SCALE * 32 + GAP + CAPTION + CAPTION
    assert (sheet[top : top + 64, GAP : GAP + 64] == [255, 0, 0]).all()
    assert [p.name for p in path.parent.iterdir()] == ["s.png"]
    with pytest.raises(ShapeError, match="2 names"):
        save_grid(tmp_path / "s.png", x, ["a", "b"])
