"""Checks of lab 4, *One atlas, one label*. Each takes the student's answer."""

from lsseg_edu.learn.checks.lab04.likeness import one_atlas, unlike
from lsseg_edu.learn.checks.lab04.moving import folded, move_labels

__all__ = ["folded", "move_labels", "one_atlas", "unlike"]
