"""Every page of the built book, opened from disk in light and in dark: nothing asked of another host, nothing in the
console, figures drawn, widgets shown, formulas set, search answering."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser
OWN = ("file:", "data:", "blob:", "about:")
PATIENCE = 120_000      # milliseconds; a busy machine with two cores draws WebGL in software


class Visit:
    """A page that has been opened, with all that it asked for and complained about."""

    def __init__(self, chromium, scheme: str, size=(1400, 900)):
        self.context = chromium.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.elsewhere: list[str] = []
        self.failed: list[str] = []
        self.console: list[str] = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("console", lambda message: message.type == "error" and self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def _request(self, request) -> None:
        if not request.url.startswith(OWN):
            self.elsewhere.append(request.url)

    def _failed(self, request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):       # left behind when the browser went to the next page
            self.failed.append(request.url)

    def open(self, path: Path):
        self.page.goto(path.as_uri(), wait_until="load")
        # Formulas first: their width moves everything below.
        self.page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => true) : true")
        return self.page

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error) -> None:
        self.context.close()

    def complaints(self) -> dict:
        return {"other hosts": self.elsewhere, "failed": self.failed, "console": self.console}


QUIET = {"other hosts": [], "failed": [], "console": []}


def colours_of(element) -> int:
    """Number of distinct colours on the screen where an element is, three bits a channel."""
    picture = np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")) >> 5
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def check_figures(page) -> None:
    """Plotly figures are drawn and not blank."""
    for figure in page.query_selector_all(".plotly-graph-div"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector(".main-svg", state="attached")
        if figure.query_selector("canvas"):
            page.wait_for_timeout(1500)
            assert colours_of(figure) >= 6, f"plotly figure {figure.get_attribute('id')} is blank"


def check_widgets(page) -> None:
    """Each widget view has become a widget."""
    views = len(page.query_selector_all('script[type="application/vnd.jupyter.widget-view+json"]'))
    if views:
        page.wait_for_function(
            "n => document.querySelectorAll('.widget-subarea .jupyter-widgets, .widget-subarea .widget').length >= n",
            arg=views)


def check_formulas(page) -> None:
    """Each formula has been set by MathJax, and none of them has an error in it."""
    formulas = len(page.query_selector_all("span.math, div.math"))
    assert len(page.query_selector_all("mjx-container")) >= formulas
    assert not page.query_selector_all("mjx-merror, [data-mjx-error]")


def check_media(page) -> None:
    """Images have arrived, videos can be played, both say in words what they show."""
    images = "[...document.querySelectorAll('.bd-article img')]"
    assert page.evaluate(images + ".filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 90))") == []
    assert page.evaluate(images + ".filter(i => !i.alt).map(i => i.src.slice(-60))") == []
    videos = page.query_selector_all("video")
    if videos:
        page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 1 && !v.error)")


def check_phone(page) -> None:
    """The text fits a phone: what is wider scrolls in a box of its own."""
    page.set_viewport_size({"width": 390, "height": 844})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 391, f"the page is {wide} px wide on a screen of 390"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_whole_and_quiet(chromium, book, shots, page_path, scheme):
    with Visit(chromium, scheme) as visit:
        page = visit.open(book / page_path)
        check_figures(page)
        check_widgets(page)
        check_formulas(page)
        check_media(page)
        page.wait_for_load_state("networkidle")
        if page.query_selector(".bd-article"):
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            page.evaluate("window.scrollTo(0, 0)")
            page.screenshot(path=shots / f"{page_path.replace('/', '-')}.{scheme}.png", full_page=True,
                            animations="disabled")
        if scheme == "light":
            check_phone(page)
        assert visit.complaints() == QUIET


def test_first_page_is_where_the_folder_opens(chromium, book):
    with Visit(chromium, "light") as visit:
        visit.page.goto((book / "index.html").as_uri())
        visit.page.wait_for_url("**/book/intro.html")
        assert visit.complaints() == QUIET


def test_listings_of_code_are_quiet(chromium, book):
    with Visit(chromium, "dark") as visit:
        for path in sorted((book / "_modules").rglob("*.html")):
            visit.open(path)
            assert visit.complaints() == QUIET, path.name


def test_search_page_finds_a_term(chromium, book):
    with Visit(chromium, "light") as visit:
        page = visit.page
        page.goto((book / "search.html").as_uri() + "?q=kinematic")
        page.wait_for_selector("#search-results li a")
        assert page.query_selector_all("#search-results li a")
        assert visit.complaints() == QUIET


def test_search_as_you_type_finds_a_term(chromium, book):
    with Visit(chromium, "light") as visit:
        page = visit.open(book / "book" / "intro.html")
        page.keyboard.press("Control+k")
        page.wait_for_selector("input[type=search]:visible")
        page.keyboard.type("kinematic", delay=30)
        page.wait_for_selector(".search-results li a, #search-as-you-type-results li a, #search-results li a")
        assert visit.complaints() == QUIET
