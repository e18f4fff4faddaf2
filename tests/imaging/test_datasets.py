"""Image sets: every layout gives the same arrays, corrupt files are refused by name, downloads are checked."""

import hashlib
import io
import pickle
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from safeplan.errors import DataError
from safeplan.imaging import SETS, datasets, load_images, to_bytes, to_unit
from safeplan.imaging.formats import read_cifar, read_idx, read_npz
from tests.synthetic_images import synthetic_set, write_idx, write_mnist


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path, monkeypatch):
    """No data folder, an empty cache, no network."""
    monkeypatch.delenv("SAFEPLAN_DATA", raising=False)
    monkeypatch.setenv("SAFEPLAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name, spec in SETS.items():  # nothing listens there
        monkeypatch.setitem(datasets.SETS, name, replace(spec, url="http://127.0.0.1:9/"))


def test_bytes_and_unit_range_are_inverse():
    b = torch.arange(256, dtype=torch.uint8)
    x = to_unit(b)
    assert (x.min(), x.max()) == (-1, 1) and torch.equal(to_bytes(x), b)
    assert torch.equal(to_bytes(torch.tensor([-3.0, 3.0])), torch.tensor([0, 255], dtype=torch.uint8))


def test_digits_are_padded_with_black(tmp_path):
    x, y = write_mnist(tmp_path)
    found = load_images("mnist", "train", tmp_path)
    assert found.images.shape == (6, 1, 32, 32) and found.images.dtype == np.uint8 and found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.images[:, 0, 2:-2, 2:-2], x)
    np.testing.assert_array_equal(found.labels, y)
    assert found.images.sum() == x.sum(dtype=np.int64) and found.classes == tuple("0123456789")


@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "images_small", "."])
def test_layouts_below_the_data_folder(tmp_path, monkeypatch, layout):
    named = layout in ("images_small", ".")
    write_mnist(tmp_path / layout, prefix="mnist-" if named else "")
    monkeypatch.setenv("SAFEPLAN_DATA", str(tmp_path))
    assert len(load_images("mnist", "test").images) == 6
    with pytest.raises(DataError, match="fashion"):  # files that do not say so are not taken for another set
        load_images("fashion", "test")


def test_digest_sees_images_and_labels():
    a = synthetic_set()
    other = a.labels.copy()
    other[0] += 1
    assert a.digest() == synthetic_set().digest() and a.digest() != replace(a, labels=other).digest()


def cifar_archive(path, batches):
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def test_cifar_from_archive_and_folder(tmp_path):
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (2, 3072), dtype=np.uint8) for _ in range(6)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    raw = {n: pickle.dumps({b"data": p, b"labels": [3, 9]}) for n, p in zip(names, parts, strict=True)}
    cifar_archive(tmp_path / "cifar-10-python.tar.gz", raw)
    train, test = load_images("cifar10", "train", tmp_path), load_images("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(train.images.reshape(10, -1), np.concatenate(parts[:5]))
    np.testing.assert_array_equal(test.images.reshape(2, -1), parts[5])
    assert train.labels.tolist() == [3, 9] * 5
    folder = tmp_path / "unpacked" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in raw.items():
        (folder / name).write_bytes(content)
    assert load_images("cifar10", "train", folder.parent).digest() == train.digest()


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    path = cifar_archive(tmp_path / "cifar-10-python.tar.gz", {"test_batch": pickle.dumps({b"data": Evil()})})
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz.*builtins.print"):
        read_cifar(path, "test")
    assert capsys.readouterr().out == ""


def test_npz_keeps_colour_and_place(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar10_test_5.npz", x=x, y=np.arange(5))
    found = load_images("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(found.images[:, 2], x[..., 2])
    np.savez(tmp_path / "f.npz", x=x.astype(float), y=np.arange(5))
    with pytest.raises(DataError, match=r"f\.npz.*float64"):
        read_npz(tmp_path / "f.npz")


@pytest.mark.parametrize("cut", [2, 11, 30])
def test_short_files_are_refused_by_name(tmp_path, cut):
    path = write_idx(tmp_path / "x-ubyte", np.zeros((3, 4, 4)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="x-ubyte"):
        read_idx(path)


def test_corrupt_files_are_refused_by_name(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: corrupt gzip"):
        load_images("mnist", "train", tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: corrupt"):
        load_images("cifar10", "train", tmp_path)
    (tmp_path / "mnist_test.npz").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"mnist_test\.npz"):
        read_npz(tmp_path / "mnist_test.npz")
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(5))
    with pytest.raises(DataError, match=r"t10k-labels.*5 labels for 6 images"):
        load_images("mnist", "test", tmp_path)


def test_what_is_nowhere_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"refused.*data\.path=FOLDER") as caught:
        load_images("mnist")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=f"under {tmp_path}"):
        load_images("cifar10", "train", tmp_path)
    with pytest.raises(DataError, match="mnist, fashion, cifar10"):
        load_images("imagenet")


def test_downloads_are_checked_and_kept(tmp_path, monkeypatch):
    x, _ = write_mnist(tmp_path / "there")
    monkeypatch.setitem(datasets.SETS, "mnist", replace(SETS["mnist"], url=(tmp_path / "there").as_uri() + "/"))
    with pytest.raises(DataError, match="SHA-256"):
        load_images("mnist")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "there").iterdir()}
    monkeypatch.setitem(datasets.SETS, "mnist", replace(SETS["mnist"], sha256=sums))
    np.testing.assert_array_equal(load_images("mnist").images[:, 0, 2:-2, 2:-2], x)
    shutil.rmtree(tmp_path / "there")
    load_images("mnist")  # from the cache
