"""The figures of the book: one question each, one style, legible to everybody.

Every function takes ``alt``, the sentence that a reader who cannot see the figure gets, and
returns a :class:`~lsseg_edu.show.picture.Picture`. Make the call the last line of a cell.
Matplotlib is imported when the first figure is drawn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "canvas": ["Canvas"],
        "charts": ["bars", "budget", "curves"],
        "interactive": ["explore"],
        "picture": ["Picture", "figure"],
        "slices": ["images", "overlay"],
        "taxonomy": ["taxonomy"],
        "text": ["SECTIONS", "code", "scoreboard", "survey_table"],
        "style": ["colour", "subplots", "use_style"],
    },
)
