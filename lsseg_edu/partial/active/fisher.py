"""Fisher information: ask about the images whose labels would pin the weights down."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.modules.conv import _ConvNd

from lsseg_edu.data import Task
from lsseg_edu.partial.active.informative import by_entropy
from lsseg_edu.partial.active.loop import Asked, Pool, active_learning
from lsseg_edu.train import Budget


def layers(net: nn.Module) -> list[list[str]]:
    """The names of the parameters (kernel and bias) of every convolution, layer by layer."""
    convolutions = [name for name, m in net.named_modules() if isinstance(m, _ConvNd)]
    every = [name for name, _ in net.named_parameters()]
    return [[n for n in every if n.rpartition(".")[0] == layer] for layer in convolutions]


def layer_information(net: nn.Module, images: Tensor) -> Tensor:
    r"""Fisher information of each image about each pair of layers, ``(B, L, L)``.

    .. math::
        A_i = \mathbb E_{y \sim p(y \mid x_i, \theta)}
            \big[ g\, g^\top \big], \qquad
        g_l = \frac{1}{|\theta_l|} \sum_{w \in \theta_l} \frac{\partial \ln p(y \mid x_i, \theta)}
            {\partial w}

    The matrix of all weights would have 10^10 entries, so the gradient of a layer is shrunk to its
    mean. This mean is a derivative *along one direction*, the one that moves all weights of
    the layer alike; forward-mode differentiation gives it for the logits :math:`z` of all pixels
    at once, and the expectation over labellings is then a covariance under the softmax, exactly:

    .. math::
        A_{lm} = \sum_j \mathrm{Cov}_{k \sim p_j}\big[\partial_l z_{jk}, \partial_m z_{jk}\big]

    Args:
        net: images to logits; in evaluation mode.
        images: ``(B, C, *S)``.
    """
    weights = {name: p.detach() for name, p in net.named_parameters()}
    pushed = []
    for names in layers(net):
        size = sum(weights[name].numel() for name in names)
        along = {name: torch.full_like(weights[name], 1 / size) for name in names}
        along = {name: along.get(name, torch.zeros_like(w)) for name, w in weights.items()}
        logits, push = jvp(lambda w: functional_call(net, w, (images,)), (weights,), (along,))
        pushed.append(push)
    probs, pushed = logits.softmax(1), torch.stack(pushed)
    centred = ((pushed - (probs * pushed).sum(2, keepdim=True)) * probs.sqrt()).flatten(2)
    return torch.einsum("lbs,mbs->blm", centred, centred)


def query_distribution(information: Tensor, steps: int = 300, ridge: float = 1e-4) -> Tensor:
    r"""How often to ask about each image so that the weights become least uncertain.

    .. math::
        q^* = \arg\min_{q \ge 0,\; \sum q_i = 1} \mathrm{tr}\big[ I_q^{-1} I_p \big], \qquad
        I_q = \sum_i q_i A_i + \delta I, \quad I_p = \frac1N \sum_i A_i

    The Fisher information ratio, convex in :math:`q`. A second image like the first hardly lowers
    it: what is known already is not asked again, so :math:`q^*` is diverse by itself. It is
    found by the multiplicative rule of optimal design, which stays on the simplex:

    .. math:: q_i \leftarrow q_i \sqrt{d_i} \,/ \textstyle\sum_j q_j \sqrt{d_j}, \qquad
              d_i = \mathrm{tr}\big[ I_q^{-1} I_p I_q^{-1} A_i \big] .

    At the optimum :math:`d_i \le \sum_j q_j d_j`, with equality where :math:`q_i > 0`.

    Args:
        information: ``(N, L, L)``.
        steps: of the rule.
        ridge: :math:`\delta`, relative to the mean information of a layer.

    Returns:
        ``(N,)`` double.

    Raises:
        ValueError: no image, or none that would tell anything.
    """
    if len(information) == 0 or not information.abs().sum() > 0:
        raise ValueError("No image would tell anything about the weights: there is none to choose.")
    a = information.double()
    target, eye = a.mean(0), torch.eye(a.shape[1], dtype=torch.double)
    delta = ridge * target.trace() / len(target)
    q = torch.full((len(a),), 1 / len(a), dtype=torch.double)
    for _ in range(steps):
        inverse = torch.linalg.inv(torch.einsum("n,nlm->lm", q, a) + delta * eye)
        d = torch.einsum("lm,nml->n", inverse @ target @ inverse, a).clamp(min=0)
        q = q * d.sqrt()
        q = q / q.sum()
    return q


def by_fisher(pool: Pool, candidates: int = 32) -> Tensor:
    """Images drawn by :func:`query_distribution` from the most doubtful ones, none twice.

    Args:
        pool: what may be seen.
        candidates: images of largest entropy among which the distribution chooses, as in the paper
            (a doubtless image has no information: its covariance is zero).
    """
    doubtful = by_entropy(pool)[:candidates]
    net = pool.fitted.method.net
    q = query_distribution(
        pool.each(lambda x: layer_information(net, x), pool.images[doubtful]).float()
    )
    generator = torch.Generator().manual_seed(pool.seed)
    chances = q.clamp(min=1e-12)
    return doubtful[torch.multinomial(chances, len(q), generator=generator)]


def fisher_queries(
    task: Task, budget: Budget | None = None, seed: int = 0, candidates: int = 32, **kwargs
) -> Asked:
    """Ask by a distribution over images that minimises the Fisher information ratio.

    Reference: Sourati, Gholipour, Dy, Tomas-Fernandez, Kurugol, Warfield, "Intelligent Labeling
    Based on Fisher Information for Medical Image Segmentation Using Deep Learning", IEEE TMI 2019.
    Simplified: whole slices instead of patches; one direction for each convolution, norms left out;
    the multiplicative rule instead of a semidefinite program, with the same optimum.

    Args:
        task: the problem and its annotator.
        budget, seed, kwargs: as for :func:`.active_learning`.
        candidates: see :func:`by_fisher`.
    """

    def acquire(pool: Pool) -> Tensor:
        return by_fisher(pool, candidates)

    return active_learning(task, budget, seed, acquire=acquire, **kwargs)
