"""Public data: every way in, and a server that misbehaves. No real data is needed or kept."""

import hashlib
import json
import os
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from lsseg_edu.data import IGNORE, annotate, public
from lsseg_edu.data.public import acdc, volumes
from lsseg_edu.data.public.download import download

REAL = os.environ.get("LSSEG_EDU_DATA", "")
real = pytest.mark.skipif(not REAL, reason="LSSEG_EDU_DATA is not set")

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


# -- downloads


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT well at /good, and in a bad manner elsewhere."""

    asked: list[str] = []

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        Server.asked.append(f"{self.path} {start}")
        getattr(self, self.path[1:].replace("-", "_"))(start)

    def good(self, start, content=CONTENT, ranges=True):
        if ranges and start >= len(content):
            return self.answer(416, b"", Content_Range=f"bytes */{len(content)}")
        self.answer(206 if start and ranges else 200, content[start if ranges else 0 :])

    def no_ranges(self, start):
        self.good(start, ranges=False)

    def altered(self, start):
        self.good(start, CONTENT[:-1] + b"!")

    def truncated(self, start):
        self.answer(206 if start else 200, CONTENT[start : start + 100_000], len(CONTENT) - start)

    def missing(self, start):
        self.send_error(404)

    def refused(self, start):
        self.send_error(403)

    def broken(self, start):
        self.send_error(500)

    def silent(self, start):
        self.close_connection = True

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize("checksum", [SHA, SHA.upper(), None])
def test_download_and_keep(server, tmp_path, checksum):
    Server.asked.clear()
    path = download(f"{server}/good", tmp_path / "deep" / "file.bin", checksum)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]
    download(f"{server}/good", path, checksum)
    assert Server.asked == ["/good 0"], "a file that is there is not asked for again"


def test_md5_where_owners_publish_only_that(server, tmp_path):
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert download(f"{server}/good", tmp_path / "a", f"md5:{md5}").exists()
    with pytest.raises(ValueError, match="not the file that was expected"):
        download(f"{server}/good", tmp_path / "b", f"md5:{md5[::-1]}")


def test_a_file_with_another_checksum_is_replaced(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    assert download(f"{server}/good", path, SHA).read_bytes() == CONTENT


def test_truncated_then_resumed(server, tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(ConnectionError, match="broke off after 100,000 of 300,000 bytes"):
        download(f"{server}/truncated", path, SHA)
    assert not path.exists()
    Server.asked.clear()
    download(f"{server}/good", path, SHA)
    assert Server.asked == ["/good 100000"] and path.read_bytes() == CONTENT


def test_resumed_from_a_server_without_ranges(server, tmp_path):
    path = tmp_path / "file.bin"
    path.with_name("file.bin.part").write_bytes(CONTENT[:7])
    assert download(f"{server}/no-ranges", path, SHA).read_bytes() == CONTENT


def test_killed_between_the_last_byte_and_the_renaming(server, tmp_path):
    path = tmp_path / "file.bin"
    path.with_name("file.bin.part").write_bytes(CONTENT)
    assert download(f"{server}/good", path, SHA).read_bytes() == CONTENT
    path.with_name("longer.part").write_bytes(CONTENT + b"?")
    with pytest.raises(ValueError, match="not the file that was expected"):
        download(f"{server}/good", tmp_path / "longer", None)
    assert download(f"{server}/good", tmp_path / "longer", None).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "page, error, sentence",
    [
        ("altered", ValueError, "altered"),
        ("missing", FileNotFoundError, "does not exist .* HTTP 404"),
        ("refused", PermissionError, "refused to us: HTTP 403"),
        ("broken", ConnectionError, "server's side: HTTP 500"),
        ("silent", ConnectionError, "cannot be fetched"),
    ],
)
def test_a_server_that_misbehaves(server, tmp_path, page, error, sentence):
    with pytest.raises(error, match=sentence):
        download(f"{server}/{page}", tmp_path / "file.bin", SHA)
    assert not (tmp_path / "file.bin").exists()
    assert download(f"{server}/good", tmp_path / "file.bin", SHA).read_bytes() == CONTENT


def test_offline(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as closed:
        port = closed.server_port
    with pytest.raises(ConnectionError, match="check the connection"):
        download(f"http://127.0.0.1:{port}/good", tmp_path / "file.bin", timeout=2)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(PermissionError, match="cannot be written"):
        download(f"{server}/good", tmp_path / "taken" / "file.bin")


# -- ACDC


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A mirror with a made-up ACDC: patients 1 (test), 2 (validation), 3 and 4, two frames each."""
    rng = np.random.default_rng(0)
    rows = [(p, f, s) for p in (1, 2, 3, 4) for f in (0, 1) for s in range(3)]
    patient, frame, index = np.array(rows).T
    y, x = np.mgrid[:128, :128]
    centre = np.array([[64, 64], [30, 50], [90, 100], [70, 40]])[patient - 1]
    away = np.hypot(y - centre[:, :1, None], x - centre[:, 1:, None])
    radius = np.where(frame == 0, 12, 7)[:, None, None]
    labels = (away < radius) * 3 + ((away >= radius) & (away < radius + 4)) * 2
    labels[(away >= 18) & (away < 22) & (x < centre[:, 1:, None])] = 1
    images = np.array([60, 160, 30, 220])[labels] + rng.normal(0, 10, labels.shape)
    images += 20 * np.sin(x / 9 + patient[:, None, None])  # still tissue
    arrays = {
        "images": images.clip(0, 255).astype(np.uint8),
        "labels": labels.astype(np.uint8),
        "scribbles": np.where(rng.random(labels.shape) < 0.05, labels, IGNORE).astype(np.uint8),
        "patient_id": patient.astype(np.int16),
        "frame": frame.astype(np.uint8),
        "slice_index": index.astype(np.int16),
    }
    np.savez(tmp_path / "acdc.npz", **arrays)
    monkeypatch.setenv("LSSEG_EDU_DATA", str(tmp_path))
    return arrays


def test_acdc_of_a_mirror(prepared):
    task = public.task("acdc", labelled=1, seed=0)
    assert task.test.subjects.unique().tolist() == [1]
    assert task.valid.subjects.unique().tolist() == [2]
    assert task.train.subjects.unique().tolist() == [3, 4]
    assert task.train.images.shape == (12, 1, 64, 64) and task.train.unit == "px"
    assert task.train.names[1:] == ("right ventricle", "myocardium", "left ventricle")
    assert set(task.train.extras) == {"frame", "volume", "position", "split", "scribbles"}
    assert task.train.extras["position"][:3].tolist() == [0, 0.5, 1]
    assert len(task.train.extras["volume"].unique()) == 4


def test_the_region_is_where_it_moves(prepared):
    cohort = public.load("acdc")
    whole = public.load("acdc", size=128)
    assert torch.equal(whole.labels, torch.from_numpy(prepared["labels"]).long())
    kept = (cohort.labels > 0).sum() * (80 / 64) ** 2
    assert abs(kept / (whole.labels > 0).sum() - 1) < 0.02
    blind = dict(prepared, labels=np.roll(prepared["labels"], 40, 2))
    assert torch.equal(acdc.cohort("acdc", blind, 64).images, cohort.images), "no label is used"


def test_images_labels_and_scribbles_are_cut_alike(prepared):
    cohort = public.load("acdc", size=80)
    scribbles = cohort.extras["scribbles"].long()
    assert torch.equal(scribbles[scribbles != IGNORE], cohort.labels[scribbles != IGNORE])
    assert (scribbles != IGNORE).float().mean() > 0.03
    bright = cohort.images[:, 0][cohort.labels == 3].mean()
    assert bright > cohort.images[:, 0][cohort.labels == 2].mean() + 2
    task = annotate.expert_scribbles(public.task("acdc", labelled=1))
    assert task.supervision == "expert scribbles" and "scribbles" not in task.train.extras
    assert (task.train.labels[task.unlabelled] == IGNORE).all()


def test_acdc_sizes(prepared):
    for size in (8, 200, (64, 64)):
        with pytest.raises(ValueError, match="16 to 128 pixels"):
            public.load("acdc", size=size)


def test_acdc_as_its_owners_publish_it(prepared, tmp_path, monkeypatch):
    import nibabel

    monkeypatch.delenv("LSSEG_EDU_DATA")
    (tmp_path / "acdc.npz").unlink()
    for patient in (1, 2, 3, 4):
        folder = tmp_path / "acdc" / "database" / "training" / f"patient{patient:03d}"
        folder.mkdir(parents=True)
        folder.joinpath("Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\nNbFrame: 30\n")
        for frame, number in ((0, 1), (1, 9)):
            mine = (prepared["patient_id"] == patient) & (prepared["frame"] == frame)
            stem = str(folder / f"patient{patient:03d}_frame{number:02d}")
            for key, end in (("images", ""), ("labels", "_gt")):
                stack = np.pad(prepared[key][mine], ((0, 0), (0, 0), (16, 16))).T  # 160 x 128
                image = nibabel.Nifti1Image(stack.astype(np.int16), np.eye(4))
                nibabel.save(image, f"{stem}{end}.nii.gz")
    cohort = public.load("acdc", root=tmp_path, size=128)
    assert torch.equal(cohort.labels, torch.from_numpy(prepared["labels"]).long())
    assert torch.equal(cohort.extras["frame"], torch.from_numpy(prepared["frame"]).long())
    assert "scribbles" not in cohort.extras
    assert (tmp_path / "acdc.npz").exists(), "the prepared file is kept"
    again = public.load("acdc", root=tmp_path, size=128)
    assert torch.equal(again.images, cohort.images)


def test_what_must_be_asked_for_by_hand(tmp_path, monkeypatch):
    monkeypatch.delenv("LSSEG_EDU_DATA", raising=False)
    for name, page in (("acdc", "creatis"), ("la", "cardiacatlas")):
        with pytest.raises(FileNotFoundError, match=page):
            public.load(name, root=tmp_path)
    with pytest.raises(ValueError, match="there are acdc, hippocampus, heart, la"):
        public.load("lungs")


def test_a_folder_that_cannot_keep_the_prepared_file(tmp_path, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.delenv("LSSEG_EDU_DATA", raising=False)
    decathlon(tmp_path / "Task02_Heart", [(40, 40, 20)])
    monkeypatch.setattr(np, "savez_compressed", read_only)
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert len(public.load("heart", root=tmp_path)) == 1


def test_a_damaged_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LSSEG_EDU_DATA", str(tmp_path))
    (tmp_path / "acdc.npz").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match="acdc.npz cannot be read"):
        public.load("acdc")


# -- volumes


def decathlon(folder: Path, shapes):
    """A made-up Decathlon task: one bright box a volume, a little larger in each axis."""
    import nibabel

    pairs = []
    for i, shape in enumerate(shapes):
        label = np.zeros(shape, np.uint8)
        a, b, c = (n // 2 for n in shape)
        label[a - 3 : a, b - 4 : b + 4, c - 5 : c + 5] = 1
        label[a : a + 3, b - 4 : b + 4, c - 5 : c + 5] = 2 if "Hippo" in folder.name else 1
        pair = {"image": f"./imagesTr/v_{i}.nii.gz", "label": f"./labelsTr/v_{i}.nii.gz"}
        rng = np.random.default_rng(i)
        for key, values in (("image", rng.normal(100, 5, shape) + 50 * label), ("label", label)):
            (folder / pair[key]).parent.mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4))
            nibabel.save(image, folder / pair[key])
        pairs.append(pair)
    about = {"name": "n", "description": "d", "reference": "r", "licence": "l", "test": []}
    about |= {"tensorImageSize": "3D", "modality": {}, "labels": {}, "numTraining": len(pairs)}
    about |= {"numTest": 0, "training": pairs[::-1]}
    folder.joinpath("dataset.json").write_text(json.dumps(about))


def test_hippocampus_is_downloaded_read_and_kept(server, tmp_path, monkeypatch, capsys):
    from monai.apps import DecathlonDataset

    monkeypatch.delenv("LSSEG_EDU_DATA", raising=False)
    task, root = "Task04_Hippocampus", tmp_path / "root"
    decathlon(tmp_path / task, [(31, 40, 24), (43, 59, 47), (40, 56, 40)])
    with tarfile.open(tmp_path / "served.tar", "w") as tar:
        tar.add(tmp_path / task, task)
    content = (tmp_path / "served.tar").read_bytes()
    monkeypatch.setattr(Server, "archive", lambda s, a: s.good(a, content), raising=False)
    monkeypatch.setitem(DecathlonDataset.resource, task, f"{server}/archive")
    monkeypatch.setitem(DecathlonDataset.md5, task, hashlib.md5(content).hexdigest())
    cohort = public.load("hippocampus", root=root)
    said = capsys.readouterr().out
    assert "CC BY-SA 4.0" in said and "Simpson" in said
    assert cohort.images.shape == (3, 1, 40, 56, 40) and cohort.unit == "mm"
    for k in (1, 2):
        assert ((cohort.labels == k).sum((1, 2, 3)) == 3 * 8 * 10).all(), "nothing resampled"
    assert cohort.images[:, 0][cohort.labels == 2].mean() > 2
    (root / task / "dataset.json").unlink()
    again = public.load("hippocampus", root=root)
    assert torch.equal(again.images, cohort.images)
    assert public.split(cohort) == {"valid": 0, "test": 0}


def test_heart_is_resampled_whole(tmp_path, monkeypatch):
    monkeypatch.delenv("LSSEG_EDU_DATA", raising=False)
    decathlon(tmp_path / "Task02_Heart", [(64, 64, 30), (80, 80, 40)])
    cohort = public.load("heart", root=tmp_path)
    assert cohort.images.shape == (2, 1, 48, 96, 96) and cohort.unit == "px"
    volume = (cohort.labels == 1).float().mean((1, 2, 3))
    expected = torch.tensor([480 / (64 * 64 * 30), 480 / (80 * 80 * 40)])
    assert torch.allclose(volume, expected, rtol=0.2)
    assert cohort.images[:, 0][cohort.labels == 1].mean() > 3
    with pytest.raises(ValueError, match="cannot be had with"):
        public.load("heart", root=tmp_path, size=(8, 8, 8))


def test_left_atria_as_their_owners_publish_them(tmp_path, monkeypatch):
    nrrd = pytest.importorskip("nrrd")
    monkeypatch.delenv("LSSEG_EDU_DATA", raising=False)
    for i, case in enumerate(("AAAA", "TEST", "UZUZZT2W9IUSHL6ASOX3")):
        folder = tmp_path / "la" / "Training Set" / case
        folder.mkdir(parents=True)
        label = np.zeros((48, 48, 20), np.uint8)
        label[20:30, 20:30, 5:15] = 255
        nrrd.write(str(folder / "laendo.nrrd"), label)
        noise = np.random.default_rng(i).normal(90, 5, label.shape)
        nrrd.write(str(folder / "lgemri.nrrd"), (noise + label / 4).astype(np.uint8))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "nrrd", None)
        with pytest.raises(ModuleNotFoundError, match="pip install pynrrd"):
            public.load("la", root=tmp_path)
    cohort = public.load("la", root=tmp_path)
    assert cohort.images.shape == (3, 1, 48, 64, 64)
    assert cohort.labels.unique().tolist() == [0, 1]
    assert {k: v.tolist() for k, v in public.split(cohort).items()} == {"valid": [], "test": [1]}


def test_stored_axes_are_turned_upright():
    stored = np.zeros((1, 5, 6, 7), np.uint8)
    stored[0, 4, 1, 2] = 200
    cohort = volumes.cohort("heart", {"images": stored, "labels": (stored > 0).astype(np.uint8)})
    assert cohort.labels.nonzero().tolist() == [[0, 2, 1, 4]]


def test_about_names_licence_and_citation():
    for name, source in public.SOURCES.items():
        assert source.licence in public.about(name) and source.citation in public.about(name)


# -- the real data, where they are


@real
def test_real_acdc_region_keeps_the_heart():
    arrays = dict(np.load(Path(REAL) / "acdc.npz"))
    patient, frame = arrays["patient_id"].astype(int), arrays["frame"].astype(int)
    corner = acdc.region(arrays["images"], patient, frame)
    heart = torch.from_numpy(arrays["labels"] > 0)
    inside = torch.zeros_like(heart)
    for mask, (row, column) in zip(inside, corner, strict=True):
        mask[row : row + acdc.REGION, column : column + acdc.REGION] = True
    kept, all_ = ((part).sum((1, 2)).numpy() for part in (heart & inside, heart))
    assert kept.sum() / all_.sum() > 0.999
    whole = [kept[patient == p].sum() == all_[patient == p].sum() for p in np.unique(patient)]
    assert sum(whole) >= 96


@real
def test_real_acdc_split_is_the_public_one():
    arrays = np.load(Path(REAL) / "acdc.npz")
    assert set(acdc.VALID) == set(arrays["val_patients"])
    assert set(acdc.TEST) == set(arrays["test_patients"])
    task = public.task("acdc", labelled=3)
    counts = [len(part.subjects.unique()) for part in (task.train, task.valid, task.test)]
    assert counts == [70, 10, 20] and list(map(len, (task.train, task.test))) == [1312, 380]


@real
def test_real_la_split_is_the_public_one():
    arrays = np.load(Path(REAL) / "la.npz")
    train = (arrays["ids"] <= volumes.LAST_OF_TRAINING) | (arrays["ids"] == volumes.ONE_MORE)
    assert np.array_equal(train, arrays["is_train"]) and train.sum() == 80
