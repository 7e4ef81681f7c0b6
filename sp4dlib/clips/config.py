"""What a training set is made of, in one file: TOML, or JSON with the same fields."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sp4dlib.clips.annotations import TABLES
from sp4dlib.clips.draw import DrawRule
from sp4dlib.clips.merging import MergeRule
from sp4dlib.clips.shards import MOST_PARTS
from sp4dlib.clips.sources import SPLITS, SUFFIXES, Source


@dataclass(frozen=True)
class SetConfig:
    """Everything that decides the bytes of a training set.

    Attributes
    ----------
    sources : tuple of Source
    name : str
    about : str
        A sentence or two for the set's card.
    seed : int
    val, test : float
        Shares of the families that go to these splits, for sources without splits of their own.
    per_object : int
        Clips of one object at the most, each of another animation.
    invented : int
        Motions that are invented for each object beside its own (:func:`~sp4dlib.clips.motions.invent_motion`). Parts
        are found by an object's own animations alone.
    shard_mb : int
        Size of a shard in 10^6 bytes, unless a single clip is larger.
    clips : DrawRule
    parts : MergeRule
    """

    sources: tuple[Source, ...]
    name: str = "KinematicParts"
    about: str = ""
    seed: int = 0
    val: float = 0.05
    test: float = 0.05
    per_object: int = 4
    invented: int = 0
    shard_mb: int = 500
    clips: DrawRule = DrawRule()
    parts: MergeRule = MergeRule()

    def __post_init__(self) -> None:
        for name, low in (("per_object", 1), ("invented", 0), ("shard_mb", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} is a whole number of at least {low}; got {value!r}")
        if self.parts.max_parts > MOST_PARTS:
            raise ValueError(f"ids are stored in 8 bits: parts.max_parts is at most {MOST_PARTS}; got "
                             f"{self.parts.max_parts}")
        if max(self.clips.frames, self.clips.views) > 100:
            raise ValueError(f"at most 100 frames and 100 views fit the names of a clip's files; got "
                             f"{self.clips.frames} and {self.clips.views}")

    def to_dict(self) -> dict:
        """Plain data, as a configuration file holds it."""
        return json.loads(json.dumps(asdict(self)))


def read_config(path: str | Path) -> SetConfig:
    """Read a configuration; relative paths in it count from its folder.

    Raises
    ------
    ValueError
        If it cannot be parsed, or a field is unknown or has a value that makes no sense; the message says which.
    """
    path = Path(path)
    try:
        found = _parse(path)
    except ValueError as error:                             # of both formats
        raise ValueError(f"{path} cannot be read: {error}") from error
    try:
        config = from_dict(found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    base = path.absolute().parent
    sources = tuple(replace(source, **{name: str(base / Path(getattr(source, name)).expanduser())
                                       for name in ("path", "files") if getattr(source, name)})
                    for source in config.sources)
    return replace(config, sources=sources)


def from_dict(found: dict) -> SetConfig:
    """A configuration from plain data; the way back is :meth:`SetConfig.to_dict`."""
    found = dict(found)
    sources = found.pop("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources) or not sources:
        raise ValueError("sources must be a list of tables ([[sources]]), at least one")
    tables = {name: _made(kind, found.pop(name, {}), f"[{name}]")
              for name, kind in (("clips", DrawRule), ("parts", MergeRule))}
    made = tuple(_made(Source, {"name": source.get("kind"), **source}, f"source {n}")
                 for n, source in enumerate(sources, 1))
    return _made(SetConfig, {**found, **tables, "sources": made}, "the file")


def _made(kind: type, values: dict, where: str):
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}; it has {', '.join(known)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _parse(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it must hold fields by name")
    return found


def parse_sources(words: Sequence[str], files: str = "", licence: str = "unknown") -> tuple[Source, ...]:
    """Sources as the command line names them.

    Parameters
    ----------
    words : sequence of str
        ``assets`` or ``assets:SPLIT``; ``procedural``, ``procedural:FAMILY,FAMILY``; ``humans``; the latter two may
        end in ``=COUNT``; everything else is a path: a folder or file of rigs, or a list of objects.
    files : str
        For lists: where the files are.
    licence : str
        Of folders.
    """
    sources: list[Source] = []
    for word in words:
        kind, _, rest = re.sub(r"=\d+$", "", word).partition(":")
        count = re.search(r"=(\d+)$", word)
        number = {"count": int(count[1])} if count else {}
        if kind == "assets" and (not rest or rest in SPLITS) and not count:
            made = Source("assets", "quaternius", split=rest)
        elif kind == "procedural":
            made = Source("procedural", "procedural", families=tuple(rest.split(",")) if rest else (), **number)
        elif kind == "humans" and not rest:
            made = Source("humans", "humans", **number)
        else:
            made = _path_source(word, files, licence)
        taken = {source.name for source in sources}
        name = next(n for n in (made.name, *(f"{made.name}-{i}" for i in range(2, len(words) + 1))) if n not in taken)
        sources.append(replace(made, name=name))
    return tuple(sources)


def _path_source(word: str, files: str, licence: str) -> Source:
    path = Path(word).expanduser()
    if not path.exists():
        raise ValueError(f"{word!r} is no source: give a folder or file of rigs ({', '.join(SUFFIXES)}), a list of "
                         f"objects ({', '.join(TABLES)}), assets, procedural or humans")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.absolute().stem).strip("_") or "folder"
    if path.is_file() and path.suffix.lower() in TABLES:
        return Source("objaverse", name, str(path.absolute()), files)
    return Source("folder", name, str(path.absolute()), licence=licence)
