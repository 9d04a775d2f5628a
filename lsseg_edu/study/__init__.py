"""The scoreboard: frozen protocols, a runner that can be killed, tables with intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "protocols": ["PROTOCOLS", "Protocol", "protocol"],
        "recipes": ["train_method"],
        "results": ["RESULTS", "append", "read"],
        "runner": ["run"],
        "table": ["difference", "gap", "gap_closed", "paired", "summary", "techniques"],
    },
)
