"""Checks of lab 3, *Pseudo-labels without fooling yourself*. Each takes a student's answer."""

from lsseg_edu.learn.checks.lab03.honest import gain, threshold
from lsseg_edu.learn.checks.lab03.labels import labels, quality
from lsseg_edu.learn.checks.lab03.rounds import rounds

__all__ = ["gain", "labels", "quality", "rounds", "threshold"]
