"""Checks of lab 1, *Your first Mean Teacher*. Each takes the student's own answer."""

from lsseg_edu.learn.checks.lab01.method import fair, mean_teacher
from lsseg_edu.learn.checks.lab01.pieces import consistency, ema, ramp_up

__all__ = ["consistency", "ema", "fair", "mean_teacher", "ramp_up"]
