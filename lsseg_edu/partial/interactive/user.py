"""A simulated user: looks at the answer, clicks on its worst mistake, looks again."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import Cohort, annotate


@torch.no_grad()
def with_user(method, cohort: Cohort, clicks: int = 5, batch: int = 64) -> list[Tensor]:
    """Answers after 0, 1, ..., ``clicks`` clicks an image.

    The user is :func:`.annotate.clicks`: the middle of the largest region that is wrong, and the
    class that belongs there. A user knows what he wants, so he may know the truth; the method is
    told nothing else of it. Where nothing is wrong, nobody clicks.

    A method with ``focus = f > 1`` sends its user to one image in ``f`` of each subject, the most
    doubtful by ``doubt(images)``, for ``f`` clicks each: the clicks are as many, on fewer images.

    Args:
        method: a :class:`~lsseg_edu.train.Method` or what ``fit`` returned. Without
            ``interact(images, clicks, previous)`` it does not listen: all answers are the first.
        cohort: images with full masks.
        clicks: per image.
        batch: images at a time.

    Returns:
        ``clicks + 1`` tensors of probabilities ``(N, K, *S)`` on the CPU.

    Raises:
        ValueError: a negative number of clicks.
    """
    if clicks < 0:
        raise ValueError(f"A user cannot click {clicks} times: give 0 or more.")
    method = getattr(method, "method", method).eval()
    device = next(method.parameters()).device
    images, labels = cohort.images.to(device), cohort.labels.cpu()
    answer = torch.cat([method.predict(x).cpu() for x in images.split(batch)])
    answers, listens = [answer], hasattr(method, "interact")
    index, times = visited(method, cohort)
    given = torch.full((len(cohort), clicks * times, 1 + cohort.dims), -1)
    for n in range(clicks if listens else 0):
        answer = answer.clone()
        for m in range(n * times, (n + 1) * times):
            given[index, m] = annotate.clicks(answer[index].argmax(1), labels[index])
            for todo in index[given[index, m, 0] >= 0].split(batch):
                told = given[todo, : m + 1].to(device)
                seen = answer[todo].to(device)
                answer[todo] = method.interact(images[todo], told, seen).cpu()
        answers.append(answer)
    return answers if listens else answers * (clicks + 1)


def visited(method, cohort: Cohort) -> tuple[Tensor, int]:
    """Index of the images that the user of this method looks at, and clicks on each a round."""
    focus = getattr(method, "focus", 1)
    if focus <= 1 or not hasattr(method, "interact"):
        return torch.arange(len(cohort)), 1
    device = next(method.parameters()).device
    doubt = torch.cat([method.doubt(x.to(device)).cpu() for x in cohort.images.split(64)])
    chosen = []
    for subject in cohort.subjects.cpu().unique():
        mine = (cohort.subjects.cpu() == subject).nonzero()[:, 0]
        order = doubt[mine].argsort(descending=True)
        chosen.append(mine[order[: max(len(mine) // focus, 1)]])
    index = torch.cat(chosen).sort().values
    return index, len(cohort) // len(index)
