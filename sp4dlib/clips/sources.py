"""Where a training set comes from: folders of files, the asset list, procedural families, humans, annotation lists.

Every source becomes a list of :class:`Entry`: what to load, under which key and licence, and in which split it lies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sp4dlib.rigs import FAMILIES, Rig, RigError, assets, creature, load

SPLITS = ("train", "val", "test")
KINDS = ("folder", "assets", "procedural", "humans", "objaverse")
SUFFIXES = (".glb", ".gltf")
LONGEST_KEY = 90        # a tar header has room for 100 characters of a file's name; frame, view and suffix need ten
OWN_LICENCE = "MIT"     # of what this library makes from numbers


@dataclass(frozen=True)
class Source:
    """One place that objects come from.

    Attributes
    ----------
    kind : {"folder", "assets", "procedural", "humans", "objaverse"}
    name : str
        First part of the keys of its objects; unique in a set.
    path : str
        ``folder``: a folder, searched to any depth, or one file. ``objaverse``: a list of annotations (see
        :mod:`~sp4dlib.clips.annotations`).
    files : str
        ``objaverse``: the folder that holds the files, or a JSON file ``{fileIdentifier: path}``.
    licence : str
        Of all objects of a ``folder``.
    licences : tuple of str
        ``objaverse``: take only objects whose licence contains one of these words; empty takes all.
    split : str
        ``assets``: take only this split of the list.
    families : tuple of str
        ``procedural``: which; all by default.
    count : int
        ``procedural``: of each family; ``humans``: in all.
    splits : dict
        Split of named families, with or without the source's name before them, instead of what their hash gives.
    """

    kind: str
    name: str
    path: str = ""
    files: str = ""
    licence: str = "unknown"
    licences: tuple[str, ...] = ()
    split: str = ""
    families: tuple[str, ...] = ()
    count: int = 10
    splits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a source is of kind {', '.join(KINDS)}; got {self.kind!r}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ValueError(f"a source's name has letters, digits, _ and - only; got {self.name!r}")
        if self.count < 1:
            raise ValueError(f"source {self.name}: count must be at least 1; got {self.count}")
        if self.split not in ("", *SPLITS):
            raise ValueError(f"source {self.name}: split must be one of {', '.join(SPLITS)}; got {self.split!r}")
        for family, split in self.splits.items():
            if split not in SPLITS:
                raise ValueError(f"source {self.name}: family {family!r} is put in {split!r}; choose from "
                                 f"{', '.join(SPLITS)}")


@dataclass(frozen=True)
class Entry:
    """One object before it is loaded.

    Attributes
    ----------
    key : str
        Unique in a set: letters, digits, ``_``, ``-`` and ``/``.
    source : str
        Name of its source.
    kind : {"file", "asset", "creature", "human"}
    locator : str
        Path of the file, name of the asset, or family of the creature.
    seed : int
        Of a creature or human.
    family : str
        Objects of one family are never in two splits, unless the source brings its own split.
    split : {"train", "val", "test"}
    licence : str
    origin : str
        Where the object can be had, for attribution.
    sha256 : str
        Of the file, where the source states it: another file is refused.
    """

    key: str
    source: str
    kind: str
    locator: str
    family: str
    split: str
    licence: str
    origin: str = ""
    seed: int = 0
    sha256: str = ""


def list_entries(sources: Sequence[Source], val: float = 0.05, test: float = 0.05,
                 seed: int = 0) -> tuple[list[Entry], dict[str, Counter]]:
    """All objects of some sources, in the order of their keys.

    Parameters
    ----------
    sources : sequence of Source
    val, test : float
        Shares of the families that go to these splits, for sources without splits of their own.
    seed : int
        Another seed deals families to other splits.

    Returns
    -------
    entries : list of Entry
    passed_over : dict of str to Counter
        For each source, how many rows of a list were not taken, by reason.

    Raises
    ------
    ValueError
        If a source is empty, or two have one name.
    FileNotFoundError
        If a path does not exist.
    """
    twice = [name for name, times in Counter(source.name for source in sources).items() if times > 1]
    if twice or not sources:
        raise ValueError(f"two sources are named {twice[0]}; give each a name of its own" if twice else
                         "there are no sources to build from")
    if min(val, test) < 0 or val + test > 1:
        raise ValueError(f"val and test are shares of the families; got {val} and {test}")
    entries: list[Entry] = []
    passed_over = {}
    for source in sources:
        def split(family: str, own=source.splits) -> str:
            return own.get(family) or own.get(family.split(":", 1)[-1]) or split_of(family, val, test, seed)

        found, passed_over[source.name] = _LISTERS[source.kind](source, split)
        if not found:
            raise ValueError(f"source {source.name} holds nothing to build from"
                             + (f" ({source.path})" if source.path else "")
                             + "".join(f"; {n} x {why}" for why, n in passed_over[source.name].items()))
        entries += found
    return sorted(entries, key=lambda entry: entry.key), passed_over


def split_of(family: str, val: float, test: float, seed: int = 0) -> str:
    """Split of a family, from its hash alone: it does not change when other objects come or go."""
    place = int.from_bytes(hashlib.sha256(f"{seed}/{family}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "val" if place < test + val else "train"


def load_entry(entry: Entry) -> tuple[Rig, str]:
    """The rig of an entry, and the sha256 of its file ("" for what is made from numbers).

    Raises
    ------
    RigError
        If it cannot be read, or is not the file that the list describes.
    """
    if entry.kind == "creature":
        return creature(entry.locator, entry.seed), ""
    if entry.kind == "human":
        from sp4dlib.rigs import human

        return human(entry.seed), ""
    if not entry.locator:
        raise RigError(f"{entry.origin or entry.key}: its file is not at hand; download it first")
    path = assets.path(entry.locator) if entry.kind == "asset" else Path(entry.locator)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RigError(f"{path} cannot be read: {error.strerror or error}") from error
    if entry.sha256 and digest != entry.sha256:
        raise RigError(f"{path} is not the file of the list: its sha256 is {digest}, not {entry.sha256}")
    # A .gltf names its data: equal text does not mean equal objects.
    return load(path).replace(name=entry.key), "" if path.suffix.lower() == ".gltf" else digest


def make_keys(source: str, names: Sequence[str]) -> list[str]:
    """A key for each name, such as a path: unique, and made of characters that every archive and reader takes."""
    plain = [re.sub(r"[^A-Za-z0-9_/-]+", "_", re.sub(r"\.(glb|gltf)$", "", name, flags=re.I)).strip("/")
             for name in names]
    lengths = Counter(key.lower() for key in plain)         # some file systems do not know case
    keys = []
    for name, key in zip(names, plain):
        if lengths[key.lower()] > 1 or len(source) + 1 + len(key) > LONGEST_KEY or not key:
            mark = hashlib.sha256(name.encode()).hexdigest()[:10]
            key = f"{key[:LONGEST_KEY - len(source) - 12]}-{mark}"
        keys.append(f"{source}/{key}")
    return keys


def file_family(relative: Path) -> str:
    """Family of a file below a source's folder: the folder that it lies in, or its name without a closing number."""
    if len(relative.parts) > 1:
        return relative.parent.as_posix()
    return re.sub(r"[\s_.-]*\d*$", "", relative.stem).lower() or relative.stem.lower()


def _folder(source: Source, split) -> tuple[list[Entry], Counter]:
    root = Path(source.path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"source {source.name}: {root} does not exist")
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    base = root.parent if root.is_file() else root
    relative = [file.relative_to(base) for file in files]
    keys = make_keys(source.name, [path.as_posix() for path in relative])
    entries = []
    for file, path, key in zip(files, relative, keys):
        family = f"{source.name}:{file_family(path)}"
        entries.append(Entry(key, source.name, "file", str(file.absolute()), family, split(family), source.licence,
                             path.as_posix()))
    return entries, Counter()


def _assets(source: Source, split) -> tuple[list[Entry], Counter]:
    about = assets.about()
    names = assets.names(source.split or None, plain=False)
    keys = make_keys(source.name, names)
    entries = []
    for name, key in zip(names, keys):
        asset = assets.find(name)
        entries.append(Entry(key, source.name, "asset", name, f"{source.name}:{name}", asset.split, about["license"],
                             f"{about['author']}, {about['source']}", sha256=asset.sha256))
    return entries, Counter()


def _procedural(source: Source, split) -> tuple[list[Entry], Counter]:
    unknown = set(source.families) - set(FAMILIES)
    if unknown:
        raise ValueError(f"source {source.name}: unknown families {sorted(unknown)}; choose from {', '.join(FAMILIES)}")
    entries = [Entry(f"{source.name}/{family}/{seed:05d}", source.name, "creature", family, f"{source.name}:{family}",
                     split(f"{source.name}:{family}"), OWN_LICENCE, f"sp4dlib.rigs.creature({family!r}, {seed})", seed)
               for family in source.families or FAMILIES for seed in range(source.count)]
    return entries, Counter()


def _humans(source: Source, split) -> tuple[list[Entry], Counter]:
    if importlib.util.find_spec("anny") is None:
        raise ImportError(f"source {source.name} needs the body model anny: pip install 'sp4dlib[humans]', or leave "
                          "the source out")
    # One template, one skeleton: all humans are one family.
    family = f"{source.name}:human"
    entries = [Entry(f"{source.name}/{seed:05d}", source.name, "human", "human", family, split(family), "CC0-1.0",
                     f"sp4dlib.rigs.human({seed}), anny", seed) for seed in range(source.count)]
    return entries, Counter()


def _objaverse(source: Source, split) -> tuple[list[Entry], Counter]:
    from sp4dlib.clips.annotations import list_annotated

    return list_annotated(source, split)


_LISTERS = {"folder": _folder, "assets": _assets, "procedural": _procedural, "humans": _humans,
            "objaverse": _objaverse}
