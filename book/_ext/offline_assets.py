"""Make the built book load nothing from another host.

Three things that a Jupyter Book page takes from a CDN are served from the book's own ``_static/vendor`` instead:
MathJax (``mathjax_path``), the widget embedder (``nb_ipywidgets_js``) and plotly.js (added only to pages that hold a
plotly figure). plotly.js is copied out of the installed wheel, so its version always matches the figures. Where the
vendored scripts are absent because Node was, the CDN addresses stay and the build says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import plotly
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

MATHJAX = "vendor/mathjax/tex-mml-chtml.js"
WIDGETS = "vendor/html-manager/embed.js"

# The theme's Font Awesome replaces <i> by <svg>, and the Play widget then fails to find its icon; nested, <i> stays.
# Widgets typeset their labels through MathJax 2's Hub, which MathJax 3 has not: a page with both throws without this.
FOR_WIDGETS = """
window.FontAwesomeConfig = {autoReplaceSvg: 'nest'};
window.MathJax = window.MathJax || {};
window.MathJax.startup = {ready() {
  MathJax.startup.defaultReady();
  MathJax.Hub = {Queue([, , element]) {
    MathJax.startup.promise = MathJax.startup.promise.then(() => MathJax.typesetPromise([element]));
  }};
}};
"""


# Opened from disk a page may not fetch others, which the excerpts in the list of search results are made of.
FOR_SEARCH = "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"


def use_vendored_scripts(app: Sphinx, config) -> None:
    """Point Sphinx at the book's own copies of the scripts."""
    static = Path(app.srcdir, "book", "_static")
    target = static / "vendor" / "plotly.min.js"
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    if (static / MATHJAX).exists() and (static / WIDGETS).exists():
        config.mathjax_path = MATHJAX
        config.nb_ipywidgets_js = {WIDGETS: {}}
    else:
        # Not a warning: with -W it would end the build of a reader who has no Node.
        log.info("the book's own MathJax and widget scripts are absent (no Node); pages will load them from a CDN")


def tidy_scripts(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Drop scripts that fail in the console and add those that this page's figures need."""
    kept, seen = [], set()
    for script in context["script_files"]:
        body = getattr(script, "attributes", {}).get("body")
        # sphinx-thebe registers its inline script twice, a SyntaxError; the book has no kernel to offer anyway.
        of_thebe = "sphinx-thebe" in str(getattr(script, "filename", "")) or (body and "THEBE_JS_URL" in body)
        if of_thebe or (body and body in seen):
            continue
        seen.add(body)
        kept.append(script)
    context["script_files"][:] = kept
    app.add_js_file(None, body=FOR_SEARCH, priority=900)
    if doctree is None:
        return
    raw = [node.astext() for node in doctree.findall(nodes.raw)]
    if any("plotly-graph-div" in text for text in raw):
        app.add_js_file("vendor/plotly.min.js")
    if any("vnd.jupyter.widget-view" in text for text in raw):
        app.add_js_file(None, body=FOR_WIDGETS, priority=900)     # after the inline configuration of MathJax


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", use_vendored_scripts, priority=100)
    app.connect("html-page-context", tidy_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
