"""Set up everything that `make book` and `make test` need; do nothing where it is already done.

Runs before anything is installed, so it uses the standard library only. Makes ``.venv`` (or, with ``--no-venv``, uses
the environment of the running Python), installs torch first, then the other packages, then sp4dlib itself as an
editable package, then the JavaScript that the built book serves itself.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
TORCH = "torch==2.13.0"
LOCKED_PYTHON = (3, 11)
KEPT = ("torch", "torchvision", "torchaudio", "numpy")   # what a GPU image or Colab has built for its own hardware


def fingerprint(*parts: str | bytes) -> str:
    """Hash of the given parts, for the stamp files."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()


def call(*command: str | Path) -> None:
    """Run a command from the repository root; end the set-up with its exit status if it fails."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    status = subprocess.run(words, cwd=ROOT).returncode
    if status:
        sys.exit(f"set-up failed (exit status {status}): {' '.join(words)}")


def make_venv(folder: Path) -> Path:
    """Create the virtual environment if it is absent and return its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"+ {sys.executable} -m venv {folder.name}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)]).returncode:
            sys.exit(
                "could not make a virtual environment; install Python's venv module (Debian: python3-venv), "
                "or install into the current environment with VENV=0"
            )
    return python


def installed(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of `names` that the environment of `python` already holds."""
    code = (
        "import importlib.metadata as m, sys\n"
        "for n in sys.argv[1:]:\n"
        "    try: print(n, m.version(n))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    out = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in out.splitlines())


def install_torch(python: Path) -> None:
    """Install torch alone and first: a later resolution then finds it present and leaves it alone.

    ``TORCH_INDEX`` names another package index, such as https://download.pytorch.org/whl/cpu, whose wheels are a
    tenth of the size of the CUDA ones that PyPI has for Linux.
    """
    index = os.environ.get("TORCH_INDEX")
    call(python, "-m", "pip", "install", "-q", *(["--index-url", index] if index else []), TORCH)


def install_packages(python: Path, keep: bool) -> None:
    """Install the exact lock on the Python it was made for, the ranges of pyproject.toml on any other."""
    have = installed(python, KEPT)
    if "torch" not in have:
        install_torch(python)
    if keep or python_version(python) != LOCKED_PYTHON:
        constraints = ROOT / "_build" / "keep.txt"
        constraints.parent.mkdir(exist_ok=True)
        have = installed(python, KEPT) if keep else installed(python, ("torch",))
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in have.items()))
        call(python, "-m", "pip", "install", "-q", "-c", constraints, "-e", ".[book,cluster,humans,official,test]")
    else:
        call(python, "-m", "pip", "install", "-q", "-r", LOCK)
        call(python, "-m", "pip", "install", "-q", "--no-deps", "-e", ".")


def python_version(python: Path) -> tuple[int, int]:
    """Major and minor version of an interpreter."""
    code = "import sys; print(*sys.version_info[:2])"
    major, minor = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return int(major), int(minor)


def set_up_python(use_venv: bool) -> None:
    """Install the packages unless the stamp says that exactly this was installed before."""
    folder = ROOT / ".venv"
    python = make_venv(folder) if use_venv else Path(sys.executable)
    stamp = folder / ".sp4d-stamp" if use_venv else ROOT / ".setup-env"
    wanted = fingerprint(
        str(python), str(python_version(python)), TORCH, LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes()
    )
    if stamp.exists() and stamp.read_text() == wanted:
        return
    install_packages(python, keep=not use_venv)
    stamp.write_text(wanted)


def set_up_scripts() -> None:
    """Fetch the book's JavaScript by npm unless it is there; say so where Node is missing."""
    vendor = ROOT / "book" / "_static" / "vendor"
    wanted = fingerprint(*((ROOT / "book" / name).read_bytes() for name in ("package-lock.json", "vendor.py")))
    stamp = vendor / ".stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if shutil.which("npm") is None:
        print("Node (npm) is missing: the book will load MathJax and the widget scripts from a CDN")
        return
    call(sys.executable, ROOT / "book" / "vendor.py")
    stamp.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-venv", action="store_true", help="install into the current environment, keep its torch")
    options = parser.parse_args()
    set_up_python(use_venv=not options.no_venv)
    set_up_scripts()


if __name__ == "__main__":
    main()
