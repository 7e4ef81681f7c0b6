"""Lists of objects in the manner of Objaverse-XL (arXiv 2307.05663), and where their files are on this machine.

Objaverse-XL is a table with the columns ``fileIdentifier``, ``source``, ``license``, ``fileType``, ``sha256`` and
``metadata``; Objaverse 1.0 and the lists of animated objects that others have published are lists of ids, or JSON
objects ``{id: path}``. All of these are read here. Files are looked up on this machine; :func:`download` fetches them
with the ``objaverse`` package where that is installed.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

from sp4dlib.clips.sources import SUFFIXES, Entry, Source, make_keys

COLUMNS = ("fileIdentifier", "source", "license", "fileType", "sha256")
TABLES = (".csv", ".json", ".jsonl", ".parquet", ".txt")


def read_annotations(path: str | Path) -> list[dict]:
    """Rows of a list of objects.

    Parameters
    ----------
    path : str or Path
        ``.csv`` with a header, ``.parquet`` (needs pyarrow), ``.jsonl``, ``.json`` (a list of ids or of rows, or an
        object of paths or rows by id) or ``.txt`` (an id a line).

    Returns
    -------
    list of dict
        With the keys of ``COLUMNS``, each a str, "" where the list says nothing; ``path`` where the list names a file.

    Raises
    ------
    ValueError
        If the file is no such list.
    """
    path = Path(path)
    try:
        raw = _READERS[path.suffix.lower()](path)
    except KeyError:
        raise ValueError(f"{path} is no list of objects: give {', '.join(TABLES)}") from None
    except (json.JSONDecodeError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from error
    rows = []
    for number, row in enumerate(raw, 1):
        row = {"fileIdentifier": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            raise ValueError(f"{path}: entry {number} is neither an id nor a row; got {row!r:.60}")
        row = {"fileIdentifier": row.get("uid"), **row}
        if not row["fileIdentifier"]:
            raise ValueError(f"{path}: entry {number} has no fileIdentifier (nor uid)")
        rows.append({name: str(row.get(name) or "") for name in (*COLUMNS, "path")})
    return rows


def _read_json(path: Path) -> list:
    found = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(found, dict):
        return [{"fileIdentifier": name, **(row if isinstance(row, dict) else {"path": row})}
                for name, row in found.items()]
    return found if isinstance(found, list) else [found]


def _read_csv(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_parquet(path: Path) -> list[dict]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"{path}: reading .parquet needs pyarrow (pip install pyarrow); .csv and .json do not") \
            from error
    present = set(parquet.read_schema(path).names)
    return parquet.read_table(path, columns=[c for c in (*COLUMNS, "uid", "path") if c in present]).to_pylist()


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


_READERS = {".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet, ".txt": _read_lines,
            ".jsonl": lambda path: [json.loads(line) for line in _read_lines(path)]}


def annotated_family(identifier: str) -> str:
    """What an identifier has in common with its variants: the repository, the thing, or the object itself.

    One author's repository holds many versions of one model, so a repository is never in two splits.
    """
    url = re.fullmatch(r"https?://(?:www\.)?([^/]+)/(.*)", identifier)
    if url is None:
        return identifier
    host, rest = url.groups()
    depth = {"github.com": 2, "thingiverse.com": 1}.get(host)
    return f"{host}/{rest}" if depth is None else "/".join([host, *rest.split("/")[:depth]])


def find_files(files: str) -> dict[str, Path]:
    """Files on this machine by what they may be called: their path below the folder, their name, their stem.

    Parameters
    ----------
    files : str
        A folder, or a JSON file ``{fileIdentifier: path}`` as ``objaverse.xl.download_objects`` returns it; relative
        paths count from its folder. A name that two files of the folder bear finds neither.
    """
    root = Path(files).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"{root}, where the files of a list should be, does not exist")
    if root.is_file():
        return {row["fileIdentifier"]: root.parent / row["path"] for row in read_annotations(root) if row["path"]}
    found: dict[str, Path] = {}
    doubtful = set()
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            for name in {file.relative_to(root).as_posix(), file.name, file.stem}:
                doubtful |= {name} & found.keys()
                found[name] = file
    return {name: file for name, file in found.items() if name not in doubtful}


def list_annotated(source: Source, split) -> tuple[list[Entry], Counter]:
    """Entries of a list of objects, and how many rows were passed over, by reason.

    Rows of another type than glTF, or of a licence that was not asked for, are passed over. Rows whose file is not on
    this machine are entries that will be reported as unreadable.

    Parameters
    ----------
    source : Source
    split : callable
        From family to split.
    """
    rows = read_annotations(Path(source.path).expanduser())
    found = find_files(source.files) if source.files else {}
    passed_over: Counter = Counter()
    taken: dict[str, dict] = {}
    for row in rows:
        kind = row["fileType"].lower().strip(".") or Path(row["fileIdentifier"]).suffix.lower().strip(".")
        if re.fullmatch(r"[a-z0-9]{2,5}", kind) and f".{kind}" not in SUFFIXES and _has_type(row):
            passed_over[f"file type {kind}"] += 1
        elif source.licences and not any(word.lower() in row["license"].lower() for word in source.licences):
            passed_over[f"licence {row['license'] or 'unknown'}"] += 1
        elif row["fileIdentifier"] in taken:
            passed_over["named twice"] += 1
        else:
            taken[row["fileIdentifier"]] = row
    keys = make_keys(source.name, [_short(identifier) for identifier in taken])
    entries = []
    for key, (identifier, row) in zip(keys, taken.items()):
        file = _locate(row, found, Path(source.path).parent)
        family = annotated_family(identifier)
        entries.append(Entry(key, source.name, "file", str(file.absolute()) if file else "", family, split(family),
                             row["license"] or "unknown", identifier, sha256=row["sha256"]))
    return entries, passed_over


def _has_type(row: dict) -> bool:
    """Whether a row says of what type its file is: an id without a suffix or a column says nothing."""
    return bool(row["fileType"]) or "." in row["fileIdentifier"].rsplit("/", 1)[-1]


def _short(identifier: str) -> str:
    """The telling end of an identifier: an id, or the last part of an address."""
    return re.sub(r"^https?://(www\.)?", "", identifier).rsplit("/", 1)[-1]


def _locate(row: dict, found: dict[str, Path], base: Path) -> Path | None:
    if row["path"]:
        file = Path(row["path"]).expanduser()
        file = file if file.is_absolute() else base / file
        if file.is_file():
            return file
    identifier = row["fileIdentifier"]
    below = re.sub(r"^https?://(www\.)?[^/]+/", "", identifier)
    for name in (identifier, row["sha256"], below, _short(identifier)):
        if name and name in found:
            return found[name]
    return None


def download(path: str | Path, folder: str | Path, processes: int = 4) -> Path:
    """Fetch the files of an Objaverse-XL list with the ``objaverse`` package, which asks their hosts for them.

    Parameters
    ----------
    path : str or Path
        A list of objects.
    folder : str or Path
        Where the files go, and the annotations of all of Objaverse-XL (some gigabytes).
    processes : int

    Returns
    -------
    Path
        A JSON file ``{fileIdentifier: path}`` in ``folder``, for :attr:`Source.files`.

    Raises
    ------
    ImportError
        If ``objaverse`` is not installed.
    """
    try:
        from objaverse import xl
    except ImportError as error:
        raise ImportError("downloading needs the objaverse package: pip install objaverse") from error
    wanted = [row["fileIdentifier"] for row in read_annotations(path)]
    folder = Path(folder).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    table = xl.get_annotations(download_dir=str(folder))
    paths = xl.download_objects(objects=table[table["fileIdentifier"].isin(wanted)], download_dir=str(folder),
                                processes=processes, save_repo_format="files")
    target = folder / "files.json"
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(paths, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(target)
    return target
