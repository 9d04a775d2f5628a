"""A figure with controls as plain HTML and a few lines of script: no kernel, no network."""

from __future__ import annotations

import json
from html import escape

from lsseg_edu.show.picture import CARD, data_uri, img

SCRIPT = """
(() => {
  const rest = REST, alts = ALTS;
  for (const root of document.querySelectorAll("#ID:not([data-ready])")) {
    root.dataset.ready = "";
    const image = root.querySelector("img");
    const frames = [image.src, ...rest];
    const controls = [...root.querySelectorAll("input, select")];
    const show = () => {
      let frame = 0;
      for (const control of controls) {
        const texts = JSON.parse(control.dataset.values), now = Number(control.value);
        frame = frame * texts.length + now;
        control.setAttribute("aria-valuetext", texts[now]);
        const output = control.parentNode.querySelector("output");
        if (output) output.textContent = texts[now];
      }
      image.src = frames[frame];
      image.alt = alts[frame];
    };
    for (const control of controls) {
      control.disabled = false;
      control.addEventListener("input", show);
    }
    show();
  }
})();
"""
LABEL = "display:flex;flex-wrap:wrap;gap:.2rem .6rem;align-items:center;margin:0 0 .4rem"
CONTROL = "accent-color:#0072b2;color:#1a1a1a;background:#fff"


def page(identity: str, controls, width: int, alts, files) -> str:
    """The HTML of the figure.

    Args:
        identity: the id of its element.
        controls: per choice: the text of its label, the texts of its values, slider or list.
        width: CSS pixels of a frame.
        alts: alt text of each frame; the last choice runs fastest.
        files: the frames as PNG files, in the same order.
    """
    sources = [data_uri(file) for file in files]
    script = SCRIPT.replace("ID", identity).replace("ALTS", _json(alts))
    script = script.replace("REST", _json(sources[1:]))
    return (
        f'<figure class="lsseg-explore" id="{identity}" style="{CARD}">'
        f"{''.join(_control(*control) for control in controls)}"
        f"{img(sources[0], alts[0], width)}"
        "<noscript><p>Without JavaScript the controls rest: this is the first frame.</p>"
        f"</noscript><script>{script}</script></figure>"
    )


def _control(label, texts, slider) -> str:
    """A labelled slider or list; disabled until the script has woken it up."""
    values = escape(_json(texts))
    if slider:
        field = (
            f'<input type="range" min="0" max="{len(texts) - 1}" step="1" value="0" disabled '
            f'data-values="{values}" aria-valuetext="{escape(texts[0])}" autocomplete="off" '
            f'style="{CONTROL};flex:0 1 16rem"><output>{escape(texts[0])}</output>'
        )
    else:
        options = "".join(
            f'<option value="{i}">{escape(text)}</option>' for i, text in enumerate(texts)
        )
        field = (
            f'<select disabled data-values="{values}" autocomplete="off" '
            f'style="{CONTROL}">{options}</select>'
        )
    return f'<label style="{LABEL}"><span>{escape(label)}</span>{field}</label>'


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False).replace("</", "<\\/")
