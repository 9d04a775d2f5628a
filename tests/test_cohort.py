"""Cohort and Task: what they promise, and the sentence each bad input gets."""

import numpy as np
import pytest
import torch

from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.data.cohort import normalise


def arrays(n=4, size=8):
    rng = np.random.default_rng(0)
    labels = np.zeros((n, size, size), np.int64)
    labels[:, 2:5, 2:5] = 1
    return rng.normal(size=(n, size, size)), labels


def test_from_arrays_takes_any_layout():
    images, labels = arrays()
    plain = Cohort.from_arrays(images, labels)
    assert plain.images.shape == (4, 1, 8, 8) and plain.images.dtype == torch.float32
    assert plain.labels.dtype == torch.int64 and plain.unit == "px"
    assert plain.names == ("background", "class 1")
    colour = Cohort.from_arrays(np.stack([images] * 3, 1), labels > 0, spacing=(1, 2))
    assert colour.channels == 3 and colour.unit == "mm"
    volumes = Cohort.from_arrays(images[:, None].repeat(8, 1), labels[:, None].repeat(8, 1))
    assert volumes.dims == 3 and volumes.images.shape == (4, 1, 8, 8, 8)


def test_each_subject_is_normalised_by_itself():
    images, labels = arrays()
    cohort = Cohort.from_arrays(images * [[[1]], [[1]], [[9]], [[9]]] + 5, labels, [0, 0, 1, 1])
    for subject in (0, 1):
        values = cohort.of([subject]).images
        assert abs(values.mean()) < 1e-5 and abs(values.std() - 1) < 1e-5
    scaled = images.copy()
    scaled[2:] *= 1000  # the other subject must not notice
    again = Cohort.from_arrays(scaled, labels, [0, 0, 1, 1])
    alone = Cohort.from_arrays(images, labels, [0, 0, 1, 1])
    assert torch.equal(again.images[:2], alone.images[:2])


def test_normalise_keeps_slices_of_a_subject_comparable():
    images = torch.stack([torch.arange(16.0).view(1, 4, 4), 100 + torch.arange(16.0).view(1, 4, 4)])
    assert (
        normalise(images, np.array([7, 7]))[1].min() > normalise(images, np.array([7, 7]))[0].max()
    )


def test_select_carries_everything_along():
    images, labels = arrays()
    labels[3, 0, 0] = IGNORE
    cohort = Cohort.from_arrays(
        images, labels, [5, 5, 6, 7], extras={"position": np.arange(4.0)}
    ).select([3, 0])
    assert cohort.subjects.tolist() == [7, 5] and cohort.extras["position"].tolist() == [3, 0]
    assert cohort.labels[0, 0, 0] == IGNORE
    moved = cohort.to("meta")
    assert moved.images.is_meta and moved.extras["position"].is_meta
    assert len(cohort.of([])) == 0


BAD = {
    "numbers": lambda x, y: (x.astype(object), y),
    "real": lambda x, y: (x + 1j, y),
    "integers": lambda x, y: (x, y.astype(float)),
    "NaN": lambda x, y: (np.where(x == x.max(), np.nan, x), y),
    "constant": lambda x, y: (np.where(np.arange(4)[:, None, None] == 2, 1.0, x), y),
    "empty": lambda x, y: (x[:0], y[:0]),
    "must agree": lambda x, y: (x, y[:, :-1]),
    "Labels run from": lambda x, y: (x, np.where(y == 1, 9, y), {"names": ["a", "b"]}),
    "No image shows": lambda x, y: (x, y, {"names": ["a", "b", "c"]}),
    "Nothing is annotated": lambda x, y: (x, np.full_like(y, IGNORE)),
    "one per image": lambda x, y: (x, y, {"subjects": [1, 2]}),
    "must have 4 entries": lambda x, y: (x, y, {"extras": {"position": np.zeros(3)}}),
    "positive numbers": lambda x, y: (x, y, {"spacing": (1, 0)}),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_arrays_get_a_sentence(sentence):
    images, labels, *kwargs = BAD[sentence](*arrays())
    with pytest.raises(ValueError, match=sentence):
        Cohort.from_arrays(images, labels, **(kwargs[0] if kwargs else {}))


def test_split_is_by_subject_and_complete(cohort):
    task = Task.split(cohort, labelled=3, valid=2, test=2)
    parts = [part.subjects.unique().tolist() for part in (task.train, task.valid, task.test)]
    assert sorted(sum(parts, [])) == sorted(cohort.subjects.unique().tolist())
    assert list(map(len, parts)) == [8, 2, 2]
    assert len(task.labelled) == 6 and len(task.unlabelled) == 10
    assert (task.train.labels[task.unlabelled] == IGNORE).all()
    assert (task.valid.labels != IGNORE).all() and (task.test.labels != IGNORE).all()


def test_draws_are_nested_and_judged_by_the_same(cohort):
    drawn = {
        (n, seed): Task.split(cohort, n, valid=2, test=2, seed=seed)
        for n in (2, 3)
        for seed in (0, 1)
    }
    chosen = {key: set(t.train.subjects[t.labelled].tolist()) for key, t in drawn.items()}
    assert chosen[2, 0] < chosen[3, 0] and chosen[3, 0] != chosen[3, 1]
    assert torch.equal(drawn[2, 0].test.images, drawn[3, 1].test.images)


def test_split_by_names_of_subjects(cohort):
    task = Task.split(cohort, valid=[1], test=torch.tensor([4, 2]))
    assert task.valid.subjects.unique().tolist() == [1]
    assert task.test.subjects.unique().tolist() == [2, 4]
    assert len(Task.split(cohort, valid=[], test=2).valid) == 0


def test_keep_hides_every_annotation_of_the_others():
    images, labels = arrays()
    position = torch.arange(4.0)
    extras = {"instances": labels + 1, "position": position, "boxes": torch.ones(4, 2, 5).long()}
    cohort = Cohort.from_arrays(images, labels, extras=extras)
    task = Task.split(cohort, labelled=1, valid=0, test=1)
    hidden = task.train.select(task.unlabelled).extras
    assert (hidden["instances"] == 0).all() and (hidden["boxes"] == -1).all()
    assert torch.equal(task.train.extras["position"], position[task.train.subjects])
    shown = task.train.select(task.labelled).extras
    assert (shown["instances"] > 0).all() and (shown["boxes"] == 1).all()
    assert (cohort.extras["instances"] > 0).all(), "the cohort itself must not change"


def test_a_box_counts_as_showing_its_class(task):
    background = torch.where(task.train.labels == 0, 0, IGNORE)
    with pytest.raises(ValueError, match="No labelled subject shows the class 'disc'"):
        task.supervise(background)
    boxes = torch.tensor([[1, 0, 0, 5, 5], [2, 0, 0, 5, 5]]).expand(len(task.train), 2, 5)
    assert task.supervise(background, "boxes", boxes=boxes).supervision == "boxes"


def test_bad_splits_get_a_sentence(cohort):
    with pytest.raises(ValueError, match="leave none for training"):
        Task.split(cohort, valid=6, test=6)
    with pytest.raises(ValueError, match="99 is not in 'discs'"):
        Task.split(cohort, valid=[99], test=2)
    with pytest.raises(ValueError, match="Subject 3 is in the validation and in the test"):
        Task.split(cohort, valid=[3], test=[3])
    with pytest.raises(ValueError, match="cannot be -1"):
        Task.split(cohort, valid=-1)
    for n in (0, 9):
        with pytest.raises(ValueError, match=f"{n} labelled subjects asked for"):
            Task.split(cohort, n, valid=2, test=2)


def test_a_leak_is_refused(task, cohort):
    with pytest.raises(ValueError, match="in the training and in the test part"):
        Task(task.train, task.valid, cohort)


def test_a_class_nobody_shows_is_refused():
    images, labels = arrays()
    labels[1:] = 0
    with pytest.raises(ValueError, match="No labelled subject shows the class 'class 1'"):
        Task.split(Cohort.from_arrays(images, labels), 1, valid=0, test=[0])


def test_repr_says_who_is_who(task):
    assert "3 of 8 training subjects with full labels" in repr(task)
    assert "2 for validation, 2 for test" in repr(task)
