"""Checks for the labs: each runs an answer, and says in a sentence which property it lacks.

A check prints one line if the answer has all properties, else it raises
:class:`~lsseg_edu.learn.checks.demand.CheckFailed`. No check compares with one true program:
whatever has the properties is right.
"""

from lsseg_edu.learn.checks.demand import CheckFailed

__all__ = ["CheckFailed"]
