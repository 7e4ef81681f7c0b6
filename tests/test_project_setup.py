"""pyproject.toml, environment.yml and the lock name the same packages in fitting versions; the set-up obeys them."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = dict(PROJECT["optional-dependencies"])
# For users who ask for them: neither locked nor part of the environment.
ON_REQUEST = [*EXTRAS.pop("rembg"), *EXTRAS.pop("objaverse")]
ADAPTED = {"hy3dgen"}       # Hunyuan3D 2: used where a user has installed it from its repository; no index carries it


def ranges(lines) -> dict:
    """``{canonical name: specifier}`` of requirement lines."""
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


DECLARED = ranges([*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)])


def lock_lines() -> list[str]:
    text = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_no_package_is_declared_twice():
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    assert len(lines) == len(DECLARED)


def test_environment_yml_names_the_same_packages_and_ranges():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert ranges(by_pip) == DECLARED


def test_lock_is_exact_and_holds_no_path_or_address():
    odd = [line for line in lock_lines() if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!+]+", line)]
    assert odd == []


def test_lock_leaves_torch_out_and_holds_every_other_package_within_its_range():
    locked = {canonicalize_name(name): version for name, version in (line.split("==") for line in lock_lines())}
    assert "torch" not in locked
    missing = sorted(set(DECLARED) - set(locked) - {"torch"})
    assert missing == []
    outside = {name: locked[name] for name, spec in DECLARED.items() if name in locked and locked[name] not in spec}
    assert outside == {}


def test_torch_of_the_set_up_is_within_its_range():
    text = (ROOT / "tools" / "setup_env.py").read_text(encoding="utf-8")
    torch = Requirement(re.search(r'^TORCH = "(.+)"$', text, re.M).group(1))
    (pin,) = torch.specifier
    assert pin.operator == "==" and pin.version in DECLARED["torch"]


def test_the_command_is_installed_and_is_there():
    module, _, name = PROJECT["scripts"]["sp4d"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_upper_bounds_carry_a_reason():
    """Each line of pyproject.toml with `<` in a range has a comment."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    bounded = [line for line in lines if re.match(r'\s*"[A-Za-z0-9_-]+[^"]*<[^"]*"', line)]
    assert bounded and [line for line in bounded if "#" not in line] == []


def third_party_imports(folder: Path) -> dict[str, Path]:
    """Top-level names of the imports under a folder that are neither standard library nor ours."""
    own = {"sp4dlib", "tools", "benchmarks", "tests", "__future__"}
    found = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in own and top not in sys.stdlib_module_names:
                    found[top] = path
    return found


def test_every_package_that_the_library_imports_is_declared():
    distributions = importlib.metadata.packages_distributions()
    used = [line for extra, lines in EXTRAS.items() if extra not in ("book", "test") for line in lines] + ON_REQUEST
    runtime = set(ranges([*PROJECT["dependencies"], *used])) | {"ipython"}      # IPython comes with ipywidgets
    undeclared = {
        name: path.relative_to(ROOT).as_posix()
        for name, path in third_party_imports(ROOT / "sp4dlib").items()
        if name not in ADAPTED and not {canonicalize_name(d) for d in distributions.get(name, [name])} & runtime
    }
    assert undeclared == {}


@pytest.mark.parametrize("target", ["book", "test", "workshop", "lock", "measure", "clean", "help"])
def test_make_knows_the_target(target):
    run = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_readme_gives_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make book" in text and "make test" in text
    named = set(re.findall(r"^\s*make ([a-z]+)", text, re.M))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert named <= targets


def test_scripts_of_the_book_are_pinned_with_a_checksum():
    import json

    wanted = json.loads((ROOT / "book" / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "book" / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []


def test_set_up_is_skipped_when_nothing_changed(tmp_path, monkeypatch):
    """The stamp holds what was installed; another lock, project file or Python asks for a new installation."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import setup_env
    finally:
        sys.path.pop(0)
    (tmp_path / "requirements").mkdir()
    lock = tmp_path / "requirements" / "lock.txt"
    lock.write_text("numpy==2.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    installs = []
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "LOCK", lock)
    monkeypatch.setattr(setup_env, "install_packages", lambda python, keep: installs.append(keep))
    setup_env.set_up_python(use_venv=False)
    setup_env.set_up_python(use_venv=False)
    assert installs == [True]
    lock.write_text("numpy==2.1\n")
    setup_env.set_up_python(use_venv=False)
    assert installs == [True, True]
