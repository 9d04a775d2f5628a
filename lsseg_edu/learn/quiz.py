"""A multiple-choice question that answers on the page: no kernel, no script."""

from __future__ import annotations

import hashlib
import re
from html import escape

CARD = "margin:0;background:#fff;color:#1a1a1a;padding:.6rem .9rem;border-radius:.25rem"
ANSWER = "margin:.3rem 0;padding:.3rem .6rem;border:1px solid #8a8a8a;border-radius:.25rem"
VERDICTS = {True: ("✓ Right.", "#00694d"), False: ("✗ Not quite.", "#a33c00")}


def quiz(question: str, answers: dict[str, str], correct: str | list[str]) -> Quiz:
    """Ask a question. Make the call the last line of a cell.

    Every answer is a disclosure (``<details>``): choosing it, with the mouse or the keyboard,
    opens a verdict and the explanation. Words in `` `backticks` `` are set as code.

    Args:
        question: one sentence.
        answers: ``{answer: why it is right or wrong}``, in the order shown, at least two.
        correct: the right answer, or several.

    Raises:
        ValueError: fewer than two answers, no right one, no wrong one, an empty explanation.

    Example:
        >>> question = quiz(
        ...     "What is the Dice of two equal masks?",
        ...     {"0": "That is the Dice of disjoint masks.", "1": "All of both is shared."},
        ...     correct="1",
        ... )
    """
    correct = [correct] if isinstance(correct, str) else list(correct)
    if len(answers) < 2:
        raise ValueError("A question needs at least two answers to choose from.")
    strangers = [text for text in correct if text not in answers]
    if strangers or not 0 < len(correct) < len(answers):
        raise ValueError(
            f"correct must name some but not all of the answers {list(answers)}, not {correct}."
        )
    silent = [answer for answer, why in answers.items() if not why.strip()]
    if silent:
        raise ValueError(f"Explain the answer {silent[0]!r}: a bare verdict teaches nothing.")
    return Quiz(question, answers, correct)


class Quiz:
    """What :func:`quiz` returns. See there."""

    def __init__(self, question, answers, correct):
        self.question, self.answers, self.correct = question, answers, correct

    def __repr__(self) -> str:
        return f"Quiz: {self.question}"

    def _repr_html_(self) -> str:
        identity = f"quiz-{hashlib.sha1(self.question.encode()).hexdigest()[:8]}"
        answers = "".join(
            self._answer(text, why, text in self.correct) for text, why in self.answers.items()
        )
        return (
            f'<section class="lsseg-quiz" aria-labelledby="{identity}" style="{CARD}">'
            f'<p id="{identity}" style="margin:0 0 .5rem"><strong>{_format(self.question)}'
            f"</strong></p>{answers}</section>"
        )

    def _answer(self, text, why, right) -> str:
        verdict, colour = VERDICTS[right]
        return (
            f'<details style="{ANSWER}"><summary style="cursor:pointer">{_format(text)}</summary>'
            f'<p style="margin:.4rem 0 0;color:#1a1a1a"><strong style="color:{colour}">{verdict}'
            f"</strong> {_format(why)}</p></details>"
        )


def _format(text: str) -> str:
    style = "background:#f0f0f0;color:#1a1a1a"
    return re.sub(r"`([^`]+)`", rf'<code style="{style}">\1</code>', escape(text, quote=False))
