"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import matplotlib.pyplot as plt
import pytest

import lsseg_edu


def modules_with_examples():
    for module in pkgutil.walk_packages(lsseg_edu.__path__, "lsseg_edu."):
        if not module.ispkg and not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            found = doctest.DocTestFinder(exclude_empty=True).find(loaded)
            if any(test.examples for test in found):
                yield module.name


@pytest.mark.parametrize("name", sorted(modules_with_examples()))
def test_examples_of_the_docstrings(name):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=options)
    plt.close("all")
    assert result.attempted and not result.failed
