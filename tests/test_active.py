"""Active learning: the loop and its account, and each acquisition function against brute force."""

import copy
from dataclasses import replace
from itertools import combinations, product
from types import SimpleNamespace

import pytest
import torch
from probes import weights
from scipy.optimize import minimize
from torch import nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate import answer_seconds, ask, unaided, with_annotator
from lsseg_edu.networks import Shape
from lsseg_edu.partial import max_cover
from lsseg_edu.partial.active import (
    Pool,
    active_learning,
    at_random,
    bootstrap_committee,
    by_bald,
    by_entropy,
    by_fisher,
    by_margin,
    by_suggestion,
    by_three_criteria,
    by_true_error,
    dissatisfaction,
    diverse_order,
    everything_outlined,
    fisher_queries,
    layer_information,
    loop,
    query_distribution,
    random_queries,
    representativeness,
    slices_on_request,
    suggestive,
    suggestive_annotation,
    three_criteria,
    uncertain_queries,
)
from lsseg_edu.partial.active.fisher import layers
from lsseg_edu.train import Budget, Fitted, Supervised

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=2)
EVERY = (random_queries, uncertain_queries, suggestive_annotation, three_criteria)


@pytest.fixture(scope="module")
def asked(cohort) -> Task:
    """One of eight subjects is labelled, the masks of the others are in the drawer."""
    everyone = Task.split(cohort, valid=2, test=2)
    return with_annotator(everyone.keep(1), everyone.train.labels)


@pytest.fixture(scope="module")
def pool(asked) -> Pool:
    method = Supervised(networks.unet(asked, seed=0, dropout=0.1))
    return Pool(unaided(asked), Fitted(method), count=3, budget=FEW, seed=5)


def answering(pool, probs):
    """The pool with a network that answers each image of the pool in turn with these."""
    at = {image.sum().item(): p for image, p in zip(pool.images, probs, strict=True)}
    method = copy.copy(pool.fitted.method)
    method.predict = lambda images: torch.stack([at[x.sum().item()] for x in images])
    return replace(pool, fitted=Fitted(method))


def sure_of(shares, classes=3, size=32):
    """Answers ``(M, K, S, S)`` that give the background these probabilities everywhere."""
    rest = [[share, *[(1 - share) / (classes - 1)] * (classes - 1)] for share in shares]
    return torch.tensor(rest)[:, :, None, None].expand(-1, -1, size, size)


# The loop


def test_the_annotator_is_paid_for_outlines_and_looks(asked):
    masks = asked.train.extras["annotator"]
    index = asked.unlabelled[:2]
    empty = torch.zeros_like(masks[:1])
    assert answer_seconds(empty) == pytest.approx(2.4)
    assert answer_seconds(masks[index]) == pytest.approx(4 * 79 + 2 * 2.4)
    after = ask(asked, index)
    assert after.seconds - asked.seconds == pytest.approx(answer_seconds(masks[index]))
    hidden = unaided(after)
    assert "annotator" not in hidden.train.extras
    assert torch.equal(hidden.train.labels, after.train.labels)


def test_no_round_costs_more_than_its_share_and_the_rest_is_carried_over(asked):
    fitted = random_queries(asked, FEW, seed=1, rounds=3, seconds=750, **QUIET)
    paid = [seconds for seconds, _ in fitted.stages]
    assert len(paid) == 4 and paid[0] == answer_seconds(asked.train.labels[asked.labelled])
    one = answer_seconds(asked.train.extras["annotator"][:1])  # 160.4, like every other image
    assert [len(items) for items in fitted.asked] == [1, 2, 1]  # 250, 500 and 750 s are due
    steps = [b - a for a, b in zip(paid, paid[1:], strict=False)]
    assert steps == pytest.approx([one, 2 * one, one])
    assert len(torch.cat(fitted.asked).unique()) == 4
    poor = random_queries(asked, FEW, seed=1, rounds=3, seconds=300, **QUIET)
    assert [len(items) for items in poor.asked] == [0, 1, 0]
    assert torch.isin(torch.cat(fitted.asked), asked.unlabelled).all()


def test_rounds_train_on_what_was_asked_and_go_on_from_where_they_were(asked, monkeypatch):
    seen, real = [], loop.fit

    def spy(method, task, budget, seed, **kwargs):
        seen.append((weights(method.net), task, budget.steps))
        return real(method, task, budget, seed, **kwargs)

    monkeypatch.setattr(loop, "fit", spy)
    budget = replace(FEW, steps=4)
    fitted = random_queries(asked, budget, seed=1, rounds=2, seconds=700, **QUIET)
    assert [steps for *_, steps in seen] == [4, 2, 2]
    assert all("annotator" not in task.train.extras for _, task, _ in seen)
    start = set(asked.labelled.tolist())
    for number, (_, task, _) in enumerate(seen):
        given = start | {int(i) for items in fitted.asked[:number] for i in items}
        assert set(task.labelled.tolist()) == given
        truth = asked.train.extras["annotator"][task.labelled]
        assert torch.equal(task.train.labels[task.labelled], truth)
    for (_, method), (begins, *_) in zip(fitted.stages, seen[1:], strict=False):
        assert torch.equal(weights(method.net), begins)
    assert torch.equal(weights(fitted.stages[-1][1].net), weights(fitted.method.net))
    assert len(fitted.history["supervised"]) == 8


def test_all_arms_begin_alike_and_depend_on_the_seed_alone(asked):
    options = {"rounds": 1, "seconds": 400, **QUIET}
    runs = [arm(asked, FEW, 3, **options) for arm in EVERY]
    runs.append(fisher_queries(asked, FEW, 3, candidates=3, **options))
    runs.append(random_queries(asked, FEW, 3, oracle=True, **options))
    first = weights(runs[0].stages[0][1].net)
    for run in runs:
        assert torch.equal(weights(run.stages[0][1].net), first)
        assert len(run.stages) == 2 and len(run.asked[0]) == 2
        assert run.predict(asked.test.images).shape == (4, 3, 32, 32)
    again = random_queries(asked, FEW, 3, **options)
    assert torch.equal(weights(again.method.net), weights(runs[0].method.net))


def test_an_acquisition_function_cannot_see_the_masks(asked):
    seen = []

    def spy(pool):
        seen.append(pool)
        return at_random(pool)

    active_learning(asked, FEW, 0, acquire=spy, rounds=2, seconds=700, **QUIET)
    for pool in seen:
        assert "annotator" not in pool.task.train.extras
        assert (pool.task.train.labels[pool.task.unlabelled] == IGNORE).all()
    assert [pool.count for pool in seen] == [2, 2]  # 350 s at 160.4 s each, then 379.2 s


def test_questions_end_with_the_pool(asked):
    fitted = random_queries(asked, FEW, 0, rounds=3, seconds=30_000, **QUIET)
    assert [len(items) for items in fitted.asked] == [len(asked.unlabelled)]


def test_nobody_nothing_and_no_time(asked, cohort):
    everyone = Task.split(cohort, valid=2, test=2)
    with pytest.raises(ValueError, match="Nobody can be asked"):
        random_queries(everyone.keep(1), FEW)
    with pytest.raises(ValueError, match="query pool is empty"):
        random_queries(with_annotator(everyone, everyone.train.labels), FEW)
    with pytest.raises(ValueError, match="do not pay for one outline"):
        random_queries(asked, FEW, rounds=3, seconds=200)
    with pytest.raises(ValueError, match="at least 1"):
        random_queries(asked, FEW, rounds=0)
    with pytest.raises(ValueError, match="must be complete"):
        random_queries(with_annotator(everyone.keep(1), everyone.keep(1).train.labels), FEW)
    with pytest.raises(ValueError, match="Unknown measure 'doubt'"):
        uncertain_queries(asked, FEW, measure="doubt")
    with pytest.raises(ValueError, match="cannot disagree"):
        suggestive_annotation(asked, FEW, members=1, rounds=1, **QUIET)
    blank = replace(asked.train, labels=torch.full_like(asked.train.labels, IGNORE))
    with pytest.raises(ValueError, match="begin with a few"):
        random_queries(replace(asked, train=blank), FEW)


def test_the_problem_of_the_book():
    task, full = slices_on_request(3, pool=4), everything_outlined(3, pool=4)
    assert len(task.labelled) == 8 and len(task.train.subjects[task.labelled].unique()) == 2
    assert torch.equal(task.train.extras["annotator"], full.train.labels)
    assert len(full.unlabelled) == 0 and task.seconds > 0
    assert torch.equal(task.test.images, full.test.images)


# Baselines


def test_chance_is_a_permutation_of_the_seed(pool):
    order = at_random(pool)
    assert order.sort().values.tolist() == list(range(len(pool.images)))
    assert torch.equal(order, at_random(pool))
    assert not torch.equal(order, at_random(replace(pool, seed=6)))


def test_the_oracle_asks_for_what_is_wrong(asked, pool):
    masks = asked.train.extras["annotator"].clone()
    truth = masks[pool.task.unlabelled]
    guess = nn.functional.one_hot(truth, 3).movedim(-1, 1).float()
    for i in range(len(guess)):
        guess[i, :, : i + 1] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    wrong = (guess.argmax(1) != truth).flatten(1).sum(1)
    order = by_true_error(masks)(answering(pool, guess))
    assert torch.equal(wrong[order], wrong.sort(descending=True).values)


# Doubt


def test_doubt_by_hand(pool):
    shares = torch.linspace(0.4, 0.99, len(pool.images))[torch.randperm(len(pool.images))]
    other = answering(pool, sure_of(shares.tolist()))
    expected = shares.argsort().tolist()
    assert by_entropy(other).tolist() == expected == by_margin(other).tolist()


def test_entropy_and_margin_differ_where_a_third_class_does(pool):
    one = torch.tensor([[0.5, 0.5, 0.0], [0.52, 0.24, 0.24]])
    fill = torch.tensor([[1.0, 0.0, 0.0]]).expand(len(pool.images) - 2, -1)
    probs = torch.cat([one, fill])[:, :, None, None].expand(-1, -1, 32, 32)
    assert by_margin(answering(pool, probs))[:2].tolist() == [0, 1]
    assert by_entropy(answering(pool, probs))[:2].tolist() == [1, 0]


def test_bald_asks_where_passes_contradict_and_leaves_the_network_as_it_was(pool):
    method, n = pool.fitted.method, len(pool.images)
    before = {m: m.training for m in method.modules()}
    order = by_bald(pool, passes=2)
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(order, by_bald(pool, passes=2))
    assert before == {m: m.training for m in method.modules()}

    class Contrary(nn.Module):
        """On image 0 sure of one class or another, as the dropout will; elsewhere never sure."""

        def __init__(self):
            super().__init__()
            self.drop, self.w = nn.Dropout(0.5), nn.Parameter(torch.ones(1))

        def forward(self, images):
            coin = self.drop(self.w).expand(len(images), 32, 32)
            special = (images == pool.images[0]).flatten(1).all(1)[:, None, None]
            first = torch.where(special, 20 * coin - 19, 0 * coin)
            return torch.stack([first, 0 * coin, 0 * coin - 20], 1)

    contrary = replace(pool, fitted=Fitted(Supervised(Contrary())))
    assert by_bald(contrary, passes=8)[0] == 0 != by_entropy(contrary)[0]


# Suggestive annotation


def test_members_are_taught_by_bootstrap_samples(pool, monkeypatch):
    drawn = []

    def fake(method, task, budget, seed, chances, **kwargs):
        drawn.append((chances(0.0), budget.steps))
        return Fitted(method)

    monkeypatch.setattr(suggestive, "fit", fake)
    committee = bootstrap_committee(pool, members=4, share=0.5)
    counts = torch.stack([counts for counts, _ in drawn])
    assert (counts.sum(1) == len(pool.task.labelled)).all() and (counts == 0).any()
    assert len(counts.unique(dim=0)) > 1 and {steps for _, steps in drawn} == {1}
    assert all(member is not pool.fitted.method for member in committee.net)


def test_greedy_cover_of_candidates_against_brute_force():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        features = torch.rand(9, 4, generator=generator)
        features = nn.functional.normalize(features, dim=1)
        likeness = features @ features[:6].T  # candidates among nine
        value = {s: likeness[:, list(s)].amax(1).sum() for s in combinations(range(6), 3)}
        greedy = max_cover(likeness, 3)
        found = likeness[:, greedy].amax(1).sum()
        assert found >= (1 - 1 / torch.e) * max(value.values())
        steps = [likeness[:, greedy[: n + 1]].amax(1).sum() for n in range(3)]
        assert torch.isclose(steps[0], likeness.sum(0).max()) and steps == sorted(steps)


def test_suggestions_are_doubtful_and_cover_the_pool(pool, monkeypatch):
    n = len(pool.images)
    doubt = torch.linspace(0.02, 0.4, n)
    committee = SimpleNamespace(
        samples=lambda x: torch.stack([sure_of((0.5 + s * of(x)).tolist()) for s in (-1, 1)])
    )

    def of(images):
        place = (images.flatten(1)[:, None] == pool.images.flatten(1)).all(2).float()
        return doubt[place.argmax(1)]

    monkeypatch.setattr(suggestive, "bootstrap_committee", lambda *args: committee)
    features = nn.functional.one_hot(torch.arange(n) // 2).float()  # pairs of twins
    monkeypatch.setattr(Pool, "features", lambda self, images=None: features)
    order = by_suggestion(pool, candidates=2)
    assert sorted(order.tolist()) == list(range(n - 6, n))  # K = 2 * 3 most doubtful
    assert len({int(i) // 2 for i in order[:3]}) == 3  # no twins among those asked
    top = doubt.argsort(descending=True)[:3]
    assert len({int(i) // 2 for i in top}) < 3  # doubt alone would have asked twins


# Fisher information


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Tanh(), nn.Conv2d(2, 2, (1, 2)))
    return net.double(), torch.randn(3, 1, 2, 3, dtype=torch.double)


def test_information_is_the_mean_outer_product_of_explicit_gradients(tiny):
    net, images = tiny
    expected = torch.zeros(3, 2, 2, dtype=torch.double)
    for image, matrix in zip(images, expected, strict=True):
        for labels in product(range(2), repeat=4):  # every labelling of the 2 x 2 pixels
            logp = net(image[None]).log_softmax(1)[0]
            logp = logp.gather(0, torch.tensor(labels).view(1, 2, 2)).sum()
            shrunk = []
            for layer in (net[0], net[2]):
                grads = torch.autograd.grad(logp, list(layer.parameters()), retain_graph=True)
                shrunk.append(torch.cat([g.flatten() for g in grads]).mean())
            g = torch.stack(shrunk)
            matrix += logp.exp().detach() * torch.outer(g, g)
    assert torch.allclose(layer_information(net, images), expected, rtol=1e-6)


def test_every_convolution_of_the_unet_is_a_layer_in_2d_and_3d():
    for dims in (2, 3):
        net = networks.unet(Shape(1, 3, dims)).eval()
        found = layers(net)
        assert len(found) == 23 and all(len(names) in (1, 2) for names in found)
    torch.manual_seed(0)
    a = layer_information(networks.unet(Shape(1, 3, 2)).eval(), torch.randn(2, 1, 32, 32))
    assert a.shape == (2, 23, 23) and torch.isfinite(a).all()
    assert (torch.linalg.eigvalsh(a.double()) > -1e-6 * a.abs().max()).all()


def ratio(q, a, ridge=1e-4):
    target = a.mean(0)
    delta = ridge * target.trace() / len(target) * torch.eye(len(target), dtype=a.dtype)
    return (torch.linalg.inv(torch.einsum("n,nlm->lm", q, a) + delta) @ target).trace()


def test_query_distribution_is_the_optimum():
    generator = torch.Generator().manual_seed(1)
    g = torch.randn(6, 2, 3, dtype=torch.double, generator=generator)
    a = torch.einsum("nsl,nsm->nlm", g, g)
    q = query_distribution(a, steps=2000)
    assert q.sum().item() == pytest.approx(1) and (q >= 0).all()
    found = minimize(
        lambda x: ratio(torch.from_numpy(x), a).item(),
        [1 / 6] * 6,
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert ratio(q, a).item() == pytest.approx(found.fun, rel=1e-3)
    assert ratio(q, a) < ratio(torch.full((6,), 1 / 6, dtype=torch.double), a)


def test_what_is_known_already_is_not_asked_again():
    loud, other = torch.diag(torch.tensor([3.0, 0.1])), torch.diag(torch.tensor([0.1, 1.0]))
    q = query_distribution(torch.stack([loud, loud, loud, other]))
    assert q[3] > q[:3].max()  # the single one that tells of the second layer
    with pytest.raises(ValueError, match="none to choose"):
        query_distribution(torch.zeros(3, 2, 2))


def test_queries_are_drawn_by_the_distribution(pool, monkeypatch):
    from lsseg_edu.partial.active import fisher

    q = torch.tensor([0.0, 0.5, 0.0, 0.5])
    monkeypatch.setattr(fisher, "query_distribution", lambda a: q)
    doubtful = by_entropy(pool)[:4]
    order = by_fisher(pool, candidates=4)
    assert set(order[:2].tolist()) == set(doubtful[[1, 3]].tolist())
    assert sorted(order.tolist()) == sorted(doubtful.tolist())


# Three criteria


def test_dissatisfaction_by_hand_and_its_two_levels():
    probs = torch.zeros(3, 2, 4, 4)
    probs[:, 0] = 1
    probs[0, :, :2] = torch.tensor([0.0, 1.0])[:, None, None]  # a sure object
    probs[1, :, :2] = torch.tensor([0.4, 0.6])[:, None, None]  # a faint one
    probs[2, :, :1, :1] = torch.tensor([0.4, 0.6])[:, None, None]  # faint and small
    sure, faint, small = dissatisfaction(probs).tolist()
    entropy = -(0.4 * torch.tensor(0.4).log2() + 0.6 * torch.tensor(0.6).log2())
    image = 1 - (2 * 8 * 0.6 + 1) / (8 * 0.6 + 8 + 1)
    assert sure == pytest.approx(0, abs=1e-6)
    assert faint == pytest.approx((entropy / 2 + image).item(), rel=1e-4)
    assert small > entropy.item() / 16  # the image level does not shrink with the object


def test_representative_and_diverse_by_hand():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    like = (features @ features.T).mean(1)
    assert torch.allclose(representativeness(features), like)
    assert like.argmin() == 3
    known = torch.tensor([[1.0, 0.0]])
    assert diverse_order(features, known).tolist()[:2] == [3, 2]  # far from 0, then from 1.5 too
    assert sorted(diverse_order(features, known).tolist()) == [0, 1, 2, 3]


def test_three_sieves_one_after_the_other(pool, monkeypatch):
    n = len(pool.images)
    shares = torch.linspace(0.95, 0.45, n).tolist()
    angles = torch.linspace(0, 1.2, n)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    monkeypatch.setattr(
        Pool, "features", lambda self, images=None: features if images is None else features[:1]
    )
    other = answering(replace(pool, count=2), sure_of(shares))
    grudge = dissatisfaction(sure_of(shares))
    first = grudge.argsort(descending=True)[:8]
    second = first[representativeness(features)[first].argsort(descending=True)[:4]]
    order = by_three_criteria(other)
    assert set(order.tolist()) == set(second.tolist())
    assert order[0] == second.max()  # the one least like the labelled image at angle 0
