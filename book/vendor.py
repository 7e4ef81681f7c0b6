"""Copy the JavaScript that the built book serves itself out of npm packages into ``_static/vendor``.

MathJax 3 sets the formulas; html-manager's ``embed.js`` shows the widgets. plotly.js is not here: the Sphinx extension
copies it out of the installed plotly wheel, so that its version always matches.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

BOOK = Path(__file__).resolve().parent
VENDOR = BOOK / "_static" / "vendor"


def main() -> None:
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=BOOK, check=True)
    modules = BOOK / "node_modules"
    shutil.rmtree(VENDOR, ignore_errors=True)

    mathjax, source = VENDOR / "mathjax", modules / "mathjax" / "es5"
    mathjax.mkdir(parents=True)
    shutil.copy(source / "tex-mml-chtml.js", mathjax)
    for folder in ("output/chtml/fonts/woff-v2", "input/tex/extensions", "a11y"):
        shutil.copytree(source / folder, mathjax / folder)

    # embed.js is the build without require.js: with require.js on a page plotly.js no longer sets window.Plotly.
    widgets, dist = VENDOR / "html-manager", modules / "@jupyter-widgets" / "html-manager" / "dist"
    widgets.mkdir()
    for file in (dist / "embed.js", *dist.glob("*.woff2")):
        shutil.copy(file, widgets)


if __name__ == "__main__":
    main()
