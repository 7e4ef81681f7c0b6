"""The container of a glTF 2.0 file: JSON, buffers, accessors, images. What they mean is :mod:`~sp4dlib.rigs.gltf`."""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import struct
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from sp4dlib.rigs.rig import RigError

log = logging.getLogger(__name__)

COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
SHAPES = {"SCALAR": (1, 1), "VEC2": (2, 1), "VEC3": (3, 1), "VEC4": (4, 1), "MAT2": (2, 2), "MAT3": (3, 3),
          "MAT4": (4, 4)}
READABLE = {"KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp"}
COMPRESSION = {"KHR_draco_mesh_compression": "Draco compression", "EXT_meshopt_compression": "meshopt compression",
               "KHR_meshopt_compression": "meshopt compression"}
HEADER, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


class GltfFile:
    """An opened .glb or .gltf file.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    json : dict
        The document.

    Raises
    ------
    RigError
        If the file is missing, damaged, of another version, or requires an extension that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RigError(f"cannot read {path} ({error.strerror or error}); check the path") from error
        text, self._binary = self._split(content)
        try:
            self.json = json.loads(text.decode("utf-8"))
        except ValueError as error:
            raise self.damaged(f"its JSON cannot be parsed ({error})") from error
        version = self.json.get("asset", {}).get("version") if isinstance(self.json, dict) else None
        if not str(version).startswith("2."):
            raise RigError(f"{path} is glTF version {version}, not 2.x; export it again as glTF 2.0")
        self._check_extensions()
        self._buffers: dict[int, np.ndarray] = {}

    def damaged(self, what: str) -> RigError:
        """The error of a file that contradicts itself."""
        return RigError(f"{self.path} is damaged: {what}; get or export it again (the Khronos glTF validator tells "
                        "more)")

    def _split(self, content: bytes) -> tuple[bytes, bytes | None]:
        """JSON and binary chunk of a .glb; a .gltf is all JSON."""
        if not content:
            raise self.damaged("it is empty")
        if content.lstrip()[:1] == b"{":
            return content, None
        if len(content) < 20 or struct.unpack_from("<I", content)[0] != HEADER:
            raise RigError(f"{self.path} is neither a .glb nor a .gltf file (wrong first bytes); export it as glTF 2.0")
        _, version, length = struct.unpack_from("<3I", content)
        if version != 2:
            raise RigError(f"{self.path} is binary glTF version {version}, not 2; export it again as glTF 2.0")
        if length > len(content):
            raise self.damaged(f"it is cut off after {len(content)} of {length} bytes")
        chunks, at = {}, 12
        while at + 8 <= length:
            size, kind = struct.unpack_from("<2I", content, at)
            if at + 8 + size > length:
                raise self.damaged("a chunk reaches beyond its end")
            chunks.setdefault(kind, content[at + 8:at + 8 + size])
            at += 8 + size
        if JSON_CHUNK not in chunks:
            raise self.damaged("it has no JSON chunk")
        return chunks[JSON_CHUNK], chunks.get(BINARY_CHUNK)

    def _check_extensions(self) -> None:
        for name in self.json.get("extensionsRequired", []):
            if name in COMPRESSION:
                raise RigError(f"{self.path} needs {name}, which cannot be read; export it again without "
                               f"{COMPRESSION[name]} (for instance: import it in Blender, export with compression off)")
            if name not in READABLE and not name.startswith("KHR_materials_"):
                raise RigError(f"{self.path} needs {name}, which cannot be read; export it again without that "
                               "extension")
            if name not in READABLE:
                log.info("%s: %s is ignored; only base colours are read", self.path.name, name)

    def items(self, kind: str) -> list[dict]:
        """A top-level array such as ``nodes``; empty if the file has none."""
        return self.json.get(kind, [])

    def item(self, kind: str, index: int) -> dict:
        """One element of a top-level array, with a clear error where there is none."""
        items = self.items(kind)
        if not isinstance(index, int) or not 0 <= index < len(items):
            raise self.damaged(f"it names {kind}[{index}] of {len(items)}")
        return items[index]

    def _uri(self, uri: str, what: str) -> bytes:
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if head.endswith(";base64"):
                    return base64.b64decode(body, validate=True)
                return unquote(body).encode("latin1")
            except (binascii.Error, UnicodeEncodeError) as error:
                raise self.damaged(f"the data URI of {what} cannot be decoded ({error})") from error
        file = self.path.parent / unquote(uri)
        try:
            return file.read_bytes()
        except OSError as error:
            raise RigError(f"{self.path} needs {file}, which cannot be read ({error.strerror or error}); put that file "
                           "beside it, or export as .glb") from error

    def _buffer(self, index: int) -> np.ndarray:
        if index not in self._buffers:
            entry = self.item("buffers", index)
            if "uri" in entry:
                content = self._uri(entry["uri"], f"buffers[{index}]")
            elif index == 0 and self._binary is not None:
                content = self._binary
            else:
                raise self.damaged(f"buffers[{index}] has no data")
            if len(content) < entry["byteLength"]:
                raise self.damaged(f"buffers[{index}] holds {len(content)} of {entry['byteLength']} bytes")
            self._buffers[index] = np.frombuffer(content, np.uint8, entry["byteLength"])
        return self._buffers[index]

    def view(self, index: int) -> tuple[np.ndarray, int | None]:
        """Bytes of a buffer view, and its stride."""
        entry = self.item("bufferViews", index)
        buffer, start = self._buffer(entry["buffer"]), entry.get("byteOffset", 0)
        if start < 0 or entry["byteLength"] < 0 or start + entry["byteLength"] > len(buffer):
            raise self.damaged(f"bufferViews[{index}] reaches beyond its buffer")
        return buffer[start:start + entry["byteLength"]], entry.get("byteStride")

    def _read(self, view: int, offset: int, count: int, component: int, kind: str, what: str) -> np.ndarray:
        """``count`` elements from a buffer view, shape (count, components), row-major as stored."""
        if component not in COMPONENTS or kind not in SHAPES:
            raise self.damaged(f"{what} has component type {component} and type {kind}, which glTF does not know")
        dtype = np.dtype(COMPONENTS[component]).newbyteorder("<")
        rows, columns = SHAPES[kind]
        # Columns of a matrix start at multiples of four bytes.
        column = -(-rows * dtype.itemsize // 4) * 4 if columns > 1 else rows * dtype.itemsize
        size = column * columns
        data, stride = self.view(view)
        stride = stride or size
        if count < 0 or offset < 0 or stride < size or (count and offset + stride * (count - 1) + size > len(data)):
            raise self.damaged(f"{what} reaches beyond its buffer view")
        shape, strides = (count, columns, rows), (stride, column, dtype.itemsize)
        if not count:
            return np.zeros((0, columns * rows), dtype)
        return np.ndarray(shape, dtype, data, offset, strides).reshape(count, columns * rows)

    def accessor(self, index: int, raw: bool = False) -> np.ndarray:
        """Values of an accessor.

        Parameters
        ----------
        index : int
        raw : bool
            Keep integers as they are (indices, joints); otherwise normalised integers become floats in [0, 1] or
            [-1, 1] (glTF 2.0, 3.11) and others plain floats.

        Returns
        -------
        ndarray, shape (count,) for scalars, (count, D) for vectors, (count, n, n) for matrices (row, column)
        """
        entry, what = self.item("accessors", index), f"accessors[{index}]"
        count, component, kind = entry["count"], entry["componentType"], entry["type"]
        if "bufferView" in entry:
            values = self._read(entry["bufferView"], entry.get("byteOffset", 0), count, component, kind, what)
        elif component in COMPONENTS and kind in SHAPES:
            values = np.zeros((count, SHAPES[kind][0] * SHAPES[kind][1]), COMPONENTS[component])
        else:
            raise self.damaged(f"{what} has component type {component} and type {kind}, which glTF does not know")
        if "sparse" in entry:
            sparse, where = entry["sparse"], entry["sparse"]["indices"]
            at = self._read(where["bufferView"], where.get("byteOffset", 0), sparse["count"], where["componentType"],
                            "SCALAR", f"{what}.sparse.indices")[:, 0]
            if len(at) and at.max() >= count:
                raise self.damaged(f"{what}.sparse names element {at.max()} of {count}")
            values = values.copy()
            values[at] = self._read(sparse["values"]["bufferView"], sparse["values"].get("byteOffset", 0),
                                    sparse["count"], component, kind, f"{what}.sparse.values")
        if not raw:
            values = _to_float(values, entry.get("normalized", False))
        rows, columns = SHAPES[kind]
        if columns > 1:
            return values.reshape(count, columns, rows).transpose(0, 2, 1)
        return values[:, 0] if rows == 1 else values

    def image(self, index: int) -> np.ndarray:
        """An image as sRGB uint8, shape (h, w, 4)."""
        from PIL import Image

        entry = self.item("images", index)
        if "bufferView" in entry:
            content = self.view(entry["bufferView"])[0].tobytes()
        else:
            content = self._uri(entry.get("uri", ""), f"images[{index}]")
        try:
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image.convert("RGBA"))
        except (OSError, ValueError) as error:
            raise self.damaged(f"images[{index}] is no picture that can be read ({error})") from error


def _to_float(values: np.ndarray, normalized: bool) -> np.ndarray:
    if values.dtype.kind == "f" or not normalized:
        return values.astype(np.float64)
    out = values.astype(np.float64) / np.iinfo(values.dtype).max
    return np.maximum(out, -1)


def unique(names) -> tuple[str, ...]:
    """Append _1, _2, ... to names that were taken before."""
    taken: dict[str, None] = {}
    for name in names:
        candidate, i = name, 0
        while candidate in taken:
            i += 1
            candidate = f"{name}_{i}"
        taken[candidate] = None
    return tuple(taken)
