"""Checks of lab 2, *Believe the teacher where it is sure*. Each takes the student's answer."""

from lsseg_edu.learn.checks.lab01 import fair
from lsseg_edu.learn.checks.lab02.mask import masked_consistency, threshold, ua_mt
from lsseg_edu.learn.checks.lab02.uncertain import noisy_answers, uncertainty

__all__ = ["fair", "masked_consistency", "noisy_answers", "threshold", "ua_mt", "uncertainty"]
