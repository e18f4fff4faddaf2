"""Boxes and their truth, what an error is worth in simulations, Euler's labels, files."""

import numpy as np
import pytest

from safeplan.dynamics.systems import system
from safeplan.errors import DataError
from safeplan.evaluation.density_bench import Boxes, euler, random_boxes, starts


@pytest.fixture(scope="module")
def normal():
    x = np.random.default_rng(0).normal(size=(3, 40_000)) * np.array([1.0, 2.0, 0.0])[:, None]
    return x, random_boxes(x, 1.5, 40, np.random.default_rng(1))


def test_boxes_are_of_the_wanted_size_about_what_moves(normal):
    x, boxes = normal
    assert boxes.lo.shape == (40, 2) and ((boxes.p > 0.003) & (boxes.p < 0.3)).all()
    assert set(boxes.axes.ravel()) == {0, 1}  # the third coordinate stands still
    np.testing.assert_allclose(boxes.count(x), boxes.p)
    inside = np.array([np.mean(r.level(x) <= 0) for r in boxes.regions()])
    np.testing.assert_allclose(inside, boxes.p, atol=1e-4)


def test_an_error_is_worth_the_simulations_that_make_it(normal):
    """Counting n independent draws must be found to equal about n of them."""
    _, boxes = normal
    assert boxes.score(boxes.p)["box_rms"] == 0
    rng, n = np.random.default_rng(2), 500
    found = [boxes.score(rng.binomial(n, boxes.p) / n)["box_rms"] for _ in range(60)]
    assert np.mean((1 - boxes.p) / boxes.p) / np.mean(np.square(found)) == pytest.approx(n, rel=0.15)
    one = boxes.score(rng.binomial(n, boxes.p) / n)
    assert one["equals_mc"] == pytest.approx(np.mean((1 - boxes.p) / boxes.p) / one["box_rms"] ** 2)


def test_files_come_back_and_faults_are_named(normal, tmp_path):
    _, boxes = normal
    boxes.save(tmp_path / "b.npz")
    again = Boxes.load(tmp_path / "b.npz")
    for key, value in boxes.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key], value)
    assert [p.name for p in tmp_path.iterdir()] == ["b.npz"]
    a = {"t": 1.0, "lo": boxes.lo, "hi": boxes.hi, "p_true": boxes.p}
    for change, message in (
        ({"p_true": None}, "p_true missing"),
        ({"hi": boxes.hi[:3]}, "expected"),
        ({"p_true": 0 * boxes.p}, r"\(0, 1\]"),
    ):
        np.savez(tmp_path / "c.npz", **{k: v for k, v in (a | change).items() if v is not None})
        with pytest.raises(DataError, match=message):
            Boxes.load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", **a)
    assert (Boxes.load(tmp_path / "d.npz").axes == [0, 1]).all()
    (tmp_path / "e.npz").write_text("no archive")
    for missing in ("e.npz", "f.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            Boxes.load(tmp_path / missing)


def test_too_concentrated_states_are_said_to_be_so():
    x = np.zeros((2, 1000))
    x[0, :] = np.linspace(0, 1, 1000)
    x[1, 0] = 1e-9
    with pytest.raises(DataError, match="of 5 boxes found"):
        random_boxes(np.where(x > 0.5, 5.0, 0.0), 0.0, 5, np.random.default_rng(0))


def test_starts_of_any_number_and_euler_steps():
    case = system("vdp")
    assert starts(case, 5, 0).x.shape == (5, 2)
    np.testing.assert_array_equal(starts(case, 5, 0).x, starts(case, 8, 0).x[:5])
    draw = starts(case, 6, 3, "iid")
    x, gain = euler(case, draw)
    z, r = draw.x.T, np.ones(6)
    for k in range(1, 4):
        r = r * (1 - 0.05 * (1 - z[0] ** 2))
        z = z + 0.05 * np.array([z[1], (1 - z[0] ** 2) * z[1] - z[0]])
        np.testing.assert_allclose(x[k], z)
        np.testing.assert_allclose(gain[k], np.log(r))
