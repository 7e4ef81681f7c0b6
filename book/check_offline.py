"""Fail if a page of the built book would load anything from another host: ``python book/check_offline.py [FOLDER]``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADS = re.compile(
    r"""<(?:script|img|video|audio|source|iframe|embed|track)\b[^>]*?\bsrc=["'](?P<src>(?:https?:)?//[^"']+)"""
    r"""|<link\b[^>]*?\brel=["']?(?:stylesheet|preload|modulepreload|icon)[^>]*?\bhref=["'](?P<a>(?:https?:)?//[^"']+)"""
    r"""|<link\b[^>]*?\bhref=["'](?P<b>(?:https?:)?//[^"']+)["'][^>]*?\brel=["']?(?:stylesheet|preload|icon)"""
    r"""|<object\b[^>]*?\bdata=["'](?P<o>(?:https?:)?//[^"']+)"""
    r"""|@import\s+(?:url\()?["']?(?P<c>(?:https?:)?//[^"')]+)"""
    r"""|url\(["']?(?P<u>(?:https?:)?//[^"')]+)""",
    re.I | re.S,
)


def loads(text: str) -> list[str]:
    """Addresses on other hosts that a browser would ask for when it opens this HTML or CSS."""
    return [next(filter(None, match.groups())) for match in LOADS.finditer(text)]


def main(folder: str = "_build/html") -> int:
    found = 0
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".html", ".css"))
    for path in files:
        for address in loads(path.read_text(encoding="utf-8")):
            found += 1
            print(f"{path}: {address}")
    print(f"offline check: {len(files)} files read, {found} loads from another host")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
