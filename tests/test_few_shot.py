"""The few-shot problem: who is novel, who is the support, and what an episode asks."""

from dataclasses import replace

import pytest
import torch

from lsseg_edu.data import IGNORE, Cohort, Task, load
from lsseg_edu.semi.few_shot import (
    OSLSM,
    Conditioned,
    FewShotTask,
    SEFewShot,
    choose_support,
    combine,
    draw_episode,
    episodes,
    few_shot_task,
    few_shot_upper,
    support_only,
)
from lsseg_edu.semi.few_shot.conditioned import ABSENT
from lsseg_edu.semi.few_shot.episodes import NOVEL, only
from lsseg_edu.train import Budget, fit

QUIET = {"progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def abdomen() -> Cohort:
    return load("abdomen", subjects=40)


@pytest.fixture
def small(abdomen, monkeypatch):
    """``few_shot_task`` on forty subjects instead of a hundred."""
    monkeypatch.setattr(episodes, "load", lambda name, size: abdomen)


# The problem


@pytest.mark.parametrize("shots", [1, 5])
def test_no_novel_organ_is_in_a_training_mask(abdomen, small, shots):
    task = few_shot_task(shots)
    truth = abdomen.of(task.train.subjects.unique())
    assert torch.equal(task.train.images, truth.images)
    novel = torch.tensor([abdomen.names.index(name) for name in NOVEL])
    hidden = torch.isin(truth.labels, novel)
    assert all((truth.labels[hidden] == k).any() for k in novel)  # they are in the images
    assert (task.train.labels[hidden] == 0).all()
    assert not set(NOVEL) & set(task.train.names)
    back = torch.tensor([abdomen.names.index(name) for name in task.train.names])
    assert torch.equal(back[task.train.labels], truth.labels.where(~hidden, 0))


def test_judged_and_shown_are_the_novel_organs_alone(abdomen, small):
    task = few_shot_task(5)
    for part in (task.valid, task.test, task.support):
        assert part.names == ("background", *NOVEL)
        owner = abdomen.of(part.subjects.unique())
        for k, name in enumerate(NOVEL, 1):
            expected = (owner.labels == abdomen.names.index(name)).sum()
            assert part is task.support or (part.labels == k).sum() == expected
            assert (part.labels == k).any()


@pytest.mark.parametrize("shots", [1, 5])
def test_support_subjects_are_in_no_other_part(small, shots):
    task = few_shot_task(shots, seed=3)
    assert len(task.support) == len(task.support.subjects.unique()) == shots
    for part in (task.train, task.valid, task.test):
        assert not torch.isin(part.subjects, task.support.subjects).any()


@pytest.mark.parametrize("seed", range(3))
def test_draw_for_five_contains_the_draw_for_one(small, seed):
    one, five = few_shot_task(1, seed=seed), few_shot_task(5, seed=seed)
    assert torch.equal(five.support.images[0], one.support.images[0])
    assert torch.equal(five.support.labels[0], one.support.labels[0])
    assert torch.equal(five.test.subjects, one.test.subjects)


def test_seed_draws_the_support_and_not_the_test(small):
    tasks = [few_shot_task(1, seed=seed) for seed in range(4)]
    assert len({int(task.support.subjects) for task in tasks}) > 1
    assert all(torch.equal(task.test.subjects, tasks[0].test.subjects) for task in tasks)


def test_upper_reference_is_the_same_problem_with_novel_masks(abdomen, small):
    task, upper = few_shot_task(1), few_shot_upper(1)
    assert torch.equal(upper.train.images, task.train.images)
    assert upper.train.names == task.test.names
    assert all((upper.train.labels == k).any() for k in (1, 2))
    assert torch.equal(upper.test.labels, task.test.labels)
    assert not hasattr(upper, "support")


def test_choose_support_by_hand():
    labels = torch.zeros(5, 4, 4, dtype=torch.long)
    labels[0, 0, :2] = 1  # subject 0: class 1 only
    labels[1, 0, :3], labels[1, 1, :1] = 1, 2  # subject 1: both, the smaller one is 1 pixel
    labels[2, 0, :2], labels[2, 1, :2] = 1, 2  # subject 1: both, the smaller one is 2 pixels
    labels[3, 0, :4] = 2  # subject 2: class 2 only
    subjects = torch.tensor([0, 1, 1, 2, 3])  # subject 3 shows nothing
    for seed in range(4):
        chosen = choose_support(labels, subjects, [1, 2], 3, seed).tolist()
        assert chosen[0] == 2  # all classes at once, and the slice whose smallest is largest
        assert sorted(chosen[1:]) == [0, 3]  # one slice a subject, and never an empty one


def test_support_task_is_the_support_set_and_nothing_else(small):
    task = few_shot_task(5)
    few = task.on_support([0, 2])
    assert type(few) is Task and few.train.names == task.test.names
    assert torch.equal(few.train.images, task.support.images[[0, 2]])
    assert "5 support slices" in repr(task) and "novel: spleen, right kidney" in repr(task)


def test_only_renumbers_and_keeps_ignore(abdomen):
    item = abdomen.select([0])
    labels = item.labels.clone()
    labels[0, 0, 0] = IGNORE
    left = only(replace(item, labels=labels), [3, 1])
    assert left.names == ("background", "left kidney", "liver")
    assert left.labels[0, 0, 0] == IGNORE
    for old, new in ((3, 1), (1, 2)):
        assert torch.equal(left.labels == new, labels == old)


# Bad input: one sentence each


def test_novel_classes_that_cannot_be():
    task = Task.split(load("abdomen", subjects=40))
    everything = task.train.names[1:]
    for novel in (("heart",), (), everything):
        with pytest.raises(ValueError, match="novel must name some, but not all, of liver"):
            FewShotTask.of(task, novel)


def test_shots_that_cannot_be(small):
    for shots in (0, 10):
        with pytest.raises(ValueError, match=rf"{shots} shots asked for, but 10 training"):
            few_shot_task(shots)


def test_a_class_absent_from_the_support_set(small):
    task = few_shot_task(1)
    labels = task.support.labels.clone()
    labels[labels == 2] = 0
    support = replace(task.support, labels=labels)
    with pytest.raises(ValueError, match="No support item shows the class 'right kidney'"):
        replace(task, support=support)
    with pytest.raises(ValueError, match="No support item shows the class 'right kidney'"):
        OSLSM.for_task(task).condition(support)


def test_a_support_subject_in_another_part(small):
    task = few_shot_task(1)
    support = replace(task.support, subjects=task.test.subjects[:1])
    with pytest.raises(ValueError, match="give the support set subjects of its own"):
        replace(task, support=support)


def test_a_task_without_support(task):
    for make in (OSLSM.for_task, SEFewShot.for_task, support_only):
        with pytest.raises(ValueError, match="needs a support set: make the task with"):
            make(task)


def test_a_method_that_was_shown_nothing(task):
    with pytest.raises(ValueError, match="no support set yet: call condition"):
        Conditioned(torch.nn.Conv2d(1, 1, 1)).predict(task.test.images[:1])


def test_an_episode_of_one_image():
    with pytest.raises(ValueError, match="a batch of two or more"):
        draw_episode(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4).long())


# Episodes


def numbered(labels):
    """Images that carry their own number, so that an episode tells whom it drew."""
    return torch.arange(len(labels)).float().view(-1, 1, 1, 1).expand(-1, 1, *labels.shape[1:])


def test_target_and_partner_by_hand():
    labels = torch.zeros(6, 4, 4, dtype=torch.long)
    for i, classes in enumerate([(1,), (1, 2), (2,), (3,), (), (1, 3)]):
        for k in classes:
            labels[i, k, : i + 1] = k
    labels[0, 3, 3] = IGNORE
    images = numbered(labels)
    for seed in range(50):
        torch.manual_seed(seed)
        support, mask, query, target = draw_episode(images, labels)
        assert len(support) == len(query) == 3
        partners, asked = support[:, 0, 0, 0].long(), query[:, 0, 0, 0].long()
        assert len(asked.unique()) == 3 and not torch.isin(partners, asked).any()
        for i in range(3):
            theirs, mine = labels[partners[i]], labels[asked[i]]
            if not mask[i].any():  # the support half showed nothing to ask for
                assert (target[i] == IGNORE).all()
                continue
            (k,) = theirs[mask[i]].unique().tolist()
            assert torch.equal(mask[i], theirs == k)
            expected = (mine == k).long()
            expected[mine == IGNORE] = IGNORE
            assert torch.equal(target[i], expected)


def test_nothing_to_ask_for_teaches_nothing():
    episode = draw_episode(torch.randn(4, 1, 4, 4), torch.zeros(4, 4, 4).long())
    assert not episode.mask.any() and (episode.target == IGNORE).all()


def test_absent_classes_are_asked_at_a_known_rate():
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, 0], labels[0, 1], labels[1, 0] = 1, 2, 1
    images, absent, n = numbered(labels), 0, 0
    torch.manual_seed(0)
    for _ in range(2000):
        episode = draw_episode(images, labels)
        if episode.support[0, 0, 0, 0] == 0:  # the image with both classes is the support
            n, absent = n + 1, absent + int(not (episode.target == 1).any())
    assert absent / n == pytest.approx(ABSENT / (1 + 2 * ABSENT), abs=0.04)


def test_episodes_of_volumes():
    labels = torch.randint(0, 3, (5, 4, 4, 4))
    support, mask, query, target = draw_episode(torch.randn(5, 1, 4, 4, 4), labels)
    assert support.shape == query.shape == (2, 1, 4, 4, 4)
    assert mask.dtype == torch.bool and mask.shape == target.shape == (2, 4, 4, 4)


@pytest.mark.parametrize("method", [OSLSM, SEFewShot])
def test_training_never_looks_at_the_support_set(cohort, method):
    """Base classes only: with other support masks the trained weights are the same, bit by bit."""
    task = FewShotTask.of(Task.split(cohort, valid=2, test=2), ["square"], shots=1)
    poisoned = replace(task, support=replace(task.support, labels=1 - task.support.labels))
    ends = []
    for problem in (task, poisoned):
        fitted = fit(method.for_task(problem), problem, Budget("smoke", 2, 4), **QUIET)
        ends.append(torch.cat([p.detach().flatten() for p in fitted.method.parameters()]))
    assert torch.equal(*ends)
    start = torch.cat([p.detach().flatten() for p in method.for_task(task).parameters()])
    assert not torch.equal(start, ends[0])


# One answer for all novel classes


def test_combine_is_a_distribution_with_the_decision_at_one_half():
    torch.manual_seed(0)
    scores = torch.rand(4, 3, 8, 8)
    probs = combine(scores)
    assert probs.shape == (4, 4, 8, 8)
    assert torch.allclose(probs.sum(1), torch.ones(4, 8, 8))
    best, k = scores.max(1)
    assert torch.equal(probs.argmax(1), (k + 1).where(best > 0.5, 0))
    total = 1 - best + scores.sum(1)
    assert torch.allclose(probs[:, 2], scores[:, 1] / total)


def test_combine_changes_nothing_for_a_single_class():
    score = torch.rand(2, 1, 4, 4)
    assert torch.allclose(combine(score), torch.cat([1 - score, score], 1))
    assert torch.equal(combine(torch.zeros(1, 2, 1, 1)).flatten(), torch.tensor([1.0, 0.0, 0.0]))


def test_each_class_is_asked_with_the_shots_that_show_it(small):
    task = few_shot_task(5)
    labels = task.support.labels.clone()
    labels[1:3][labels[1:3] == 1] = 0
    labels[3, 0, 0] = IGNORE
    method = OSLSM.for_task(task).condition(replace(task.support, labels=labels))
    (spleens, first), (_, second) = method.shots()
    shows = (labels == 1).flatten(1).any(1)
    assert len(first) == shows.sum() <= 3
    assert torch.equal(spleens, task.support.images[shows])
    assert torch.equal(first, labels[shows] == 1)
    assert second.flatten(1).any(1).all()
