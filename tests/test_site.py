"""The built site: links and alt text from the files, the rest as a reader's browser sees it."""

import functools
import os
import shutil
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import pages  # noqa: E402

SITE = Path(os.environ.get("LSSEG_EDU_SITE", ROOT / "_build" / "html"))
PAGES = pages.pages()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

pytestmark = pytest.mark.skipif(not SITE.exists(), reason="no site: run `make site` first")


class Page(HTMLParser):
    """What a page links to, what it holds, and its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.resources, self.ids, self.images = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id") or attrs.get("name"))
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        loads = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
        if attrs.get(loads.get(tag)) and attrs.get("rel") != "canonical":
            self.resources.append(attrs[loads[tag]])

    handle_startendtag = handle_starttag


@functools.cache
def read(path: Path) -> Page:
    return Page(path)


def html(page: str) -> Path:
    return SITE / f"{page}.html"


def outside(address: str) -> bool:
    return bool(urlsplit(address).netloc)


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_lead_somewhere(page):
    broken = []
    for link in read(html(page)).links:
        if outside(link) or urlsplit(link).scheme in ("mailto", "data", "javascript"):
            continue
        address, fragment = urldefrag(link)
        path = urlsplit(address).path
        target = (html(page).parent / unquote(path)).resolve() if path else html(page)
        found = target.exists()
        if found and fragment and target.suffix == ".html":
            found = unquote(fragment) in read(target).ids
        if not found:
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES)
def test_images_have_alt_text(page):
    mute = [image.get("src", "")[:80] for image in read(html(page)).images if not image.get("alt")]
    assert not mute


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_nothing_from_elsewhere(page):
    assert not [address for address in read(html(page)).resources if outside(address)]


@pytest.fixture(scope="module")
def address():
    """The site on a port of this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(SITE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open a page in a theme; afterwards, nothing may have gone wrong on it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    trouble = []

    def local_only(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            trouble.append(f"asked for {route.request.url}")
            route.abort()

    def visit(page: str, theme: str):
        context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        context.route("**/*", local_only)
        tab = context.new_page()
        tab.on("console", lambda m: m.type == "error" and trouble.append(f"console: {m.text}"))
        tab.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        answer = tab.goto(f"{address}/{page}.html", wait_until="load")
        assert answer.ok
        return tab

    yield visit
    context.close()
    assert not trouble


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page_in_the_browser(visit, page, theme):
    tab = visit(page, theme)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    if tab.locator("span.math, div.math").count():
        tab.wait_for_selector("mjx-container", state="attached", timeout=20_000)
        assert tab.locator("mjx-merror").count() == 0, "MathJax could not read a formula"
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert tab.evaluate(broken) == []
    for figure in tab.locator("figure.lsseg-explore").all():
        assert_moves(figure)


SWEEP = """figure => {
  const controls = [...figure.querySelectorAll("input, select")];
  const image = figure.querySelector("img"), frames = [];
  const sizes = controls.map(control => JSON.parse(control.dataset.values).length);
  const total = sizes.reduce((a, b) => a * b, 1);
  for (let frame = 0; frame < total; frame++) {
    let rest = frame;
    const at = sizes.map(size => { const i = rest % size; rest = (rest - i) / size; return i; });
    controls.forEach((control, i) => {
      control.value = at[i];
      control.dispatchEvent(new Event("input"));
    });
    frames.push([at, image.getAttribute("src"), image.alt]);
  }
  return frames;
}"""


def assert_moves(figure):
    """The keyboard moves every control, and every control changes the picture somewhere."""
    controls, image = figure.locator("input[type=range], select"), figure.locator("img")
    assert controls.count() > 0
    for control in controls.all():
        assert control.is_enabled(), "the script of the figure did not run"
        before = image.get_attribute("alt")
        control.press("ArrowRight" if control.get_attribute("type") else "ArrowDown")
        assert image.get_attribute("alt") != before, "the control did not move"
    frames = {tuple(at): (source, alt) for at, source, alt in figure.evaluate(SWEEP)}
    assert len({alt for _, alt in frames.values()}) == len(frames), "two frames, one alt text"
    for axis in range(controls.count()):
        moved = [frames[at][0] != frames[(*at[:axis], 0, *at[axis + 1 :])][0] for at in frames]
        assert any(moved), f"control {axis + 1} never changes the picture"
