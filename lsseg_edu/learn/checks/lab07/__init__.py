"""Checks of lab 7, *Spend 200 clicks wisely*. Each takes a student's answer."""

from lsseg_edu.learn.checks.lab07.account import budget, curve
from lsseg_edu.learn.checks.lab07.choice import cover, doubt

__all__ = ["budget", "cover", "curve", "doubt"]
