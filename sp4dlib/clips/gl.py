"""The OpenGL engine: a standalone EGL context for each thread, on a GPU or on Mesa's llvmpipe.

Colour is drawn at twice the width and height and averaged, which gives four fully shaded samples a pixel and costs
llvmpipe half of what four-sample multisampling does; ids are drawn at one sample at the pixel centre. Pictures are
drawn in batches: views and frames are stacked in one tall target in the order of the result, so that a batch comes back
in one read. Only positions and normals go up for each frame.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from sp4dlib.clips.cameras import Cameras
from sp4dlib.clips.cut import Drawable, Group, cut
from sp4dlib.clips.engines import NoOpenGL
from sp4dlib.clips.scene import Scene
from sp4dlib.clips.shaders import COVER_VERTEX, MEAN, NOTHING, PASSES, source

FINE = 2                      # colour samples along a pixel's side
SRGB8_ALPHA8 = 0x8C43
BATCH_PIXELS = 2**20          # of a target: larger ones are no faster and cost memory

_thread = threading.local()
_owner: int | None = None       # process that first made a context


@dataclass
class Device:
    """A context with what outlives a clip: programs by variant, the latest targets by pass, the latest textures."""

    context: object
    nothing: object               # vertex array that covers the target with background ids
    mean: object                  # vertex array that averages the colour target
    programs: dict
    targets: dict
    textures: dict                # by identity of the image and wrap: the image, so that it lives on, and the texture


@dataclass(frozen=True)
class Target:
    """A framebuffer that holds some pictures on top of one another, and for colour the one they are averaged into."""

    shape: tuple[int, int]        # pixels of a picture's side, pictures
    drawn: object
    result: object

    def release(self) -> None:
        for framebuffer in {id(f): f for f in (self.drawn, self.result)}.values():
            for attachment in (*framebuffer.color_attachments, framebuffer.depth_attachment):
                if attachment is not None:
                    attachment.release()
            framebuffer.release()


@dataclass(frozen=True)
class Call:
    """One draw call."""

    program: object
    array: object
    first: int
    count: int
    texture: object
    cutoff: float | None
    one_sided: bool


def device() -> Device:
    """The context of this thread, made on first use.

    Raises
    ------
    NoOpenGL
        If there is no EGL or no driver, or this process was forked from one that has a context (its driver's threads
        did not survive the fork, and a new context would wait for them for ever).
    """
    global _owner
    if _owner not in (None, os.getpid()):
        raise NoOpenGL("this process was forked from one that draws with OpenGL; start workers with multiprocessing's "
                       "'spawn' or 'forkserver' method, or before the first picture")
    if not hasattr(_thread, "device"):
        try:
            import moderngl

            context = moderngl.create_context(standalone=True, backend="egl", require=330)
        except Exception as error:      # glcontext raises plain Exception
            raise NoOpenGL(f"cannot make an OpenGL context ({error}); install libegl1 and libgl1-mesa-dri, or a GPU "
                           "driver with EGL") from error
        _owner = os.getpid()
        cover = [context.program(vertex_shader=source(COVER_VERTEX), fragment_shader=source(fragment))
                 for fragment in (NOTHING, MEAN)]
        _thread.device = Device(context, *(context.vertex_array(program, []) for program in cover), {}, {}, {})
    return _thread.device


def draw(scene: Scene, cameras: Cameras, rgb: np.ndarray, ids: np.ndarray) -> None:
    """Fill ``rgb`` (T, V, H, W, 3) and ``ids`` (T, V, H, W) with pictures of ``scene``."""
    _draw(scene, cameras, {"color": rgb, "id": ids})


def draw_surface(scene: Scene, cameras: Cameras, surface: np.ndarray) -> None:
    """Fill ``surface`` (T, V, H, W, 4) with normals in camera axes and depth; zeros are background."""
    _draw(scene, cameras, {"surface": surface})


def _draw(scene: Scene, cameras: Cameras, results: dict[str, np.ndarray]) -> None:
    gpu = device()
    drawable = cut(scene)
    size, views, frames = cameras.size, len(cameras), len(scene.positions)
    largest = gpu.context.info["GL_MAX_TEXTURE_SIZE"] // (FINE * size)
    batch = max(1, min(frames * views, BATCH_PIXELS // size**2, largest))
    # sqrt(3) / 2 holds the unit cube; depth keeps the same steps for all clips whose cameras were fitted.
    radius = max(0.87, 1.001 * float(np.sqrt(np.einsum("tnc,tnc->tn", scene.positions, scene.positions).max())))
    matrices = [_matrix(cameras, view, radius) for view in range(views)]
    turns = [cameras.rotation(view).T.astype(np.float32).tobytes() for view in range(views)]
    flat = {kind: result.reshape(-1, *result.shape[2:]) for kind, result in results.items()}
    with gpu.context, ExitStack() as owned:
        gpu.context.front_face = "cw"                     # as seen in an image whose y points down
        slots = _upload(gpu, drawable, scene, tuple(results), min(frames, (batch - 2) // views + 2), owned)
        loaded = -1
        for first in range(0, frames * views, batch):
            pictures = [divmod(number, views) for number in range(first, min(first + batch, frames * views))]
            while loaded < pictures[-1][0]:
                loaded += 1
                attributes = np.hstack([scene.positions[loaded], scene.normals[loaded]])
                slots[loaded % len(slots)][0].write(drawable.blend @ attributes)
            for kind, result in flat.items():
                target = _target(gpu, kind, size, batch)
                jobs = [(slots[frame % len(slots)][1][kind], matrices[view], turns[view]) for frame, view in pictures]
                _draw_batch(gpu, kind, target, jobs, size)
                _read(gpu, kind, target, result[first:first + len(pictures)])


def _matrix(cameras: Cameras, view: int, radius: float) -> bytes:
    """Unit cube to clip space, column-major; clip y points down so that row 0 of memory is the top of the image."""
    near, far = max(cameras.distance - radius, 1e-3 * cameras.distance), cameras.distance + radius
    focal = 1 / np.tan(np.radians(cameras.fov) / 2)
    projection = np.array([[focal, 0, 0, 0], [0, -focal, 0, 0],
                           [0, 0, (near + far) / (near - far), 2 * near * far / (near - far)], [0, 0, -1, 0]])
    pose = np.eye(4)
    pose[:3, :3] = cameras.rotation(view)
    pose[2, 3] = -cameras.distance
    return (projection @ pose).T.astype(np.float32).tobytes()


def _program(gpu: Device, kind: str, group: Group, lights: int):
    """The program for a pass and a group; compiled once for each context."""
    textured, masked = group.texture is not None, group.cutoff is not None
    mirrored = [int(textured and way == "MIRROR") for way in group.wrap]
    key = (kind, textured, masked, group.one_sided, *mirrored, lights)
    if key not in gpu.programs:
        defines = {"TEXTURED": int(textured), "MASKED": int(masked), "SIDES": 2 - group.one_sided, "LIGHTS": lights,
                   "MIRROR_U": mirrored[0], "MIRROR_V": mirrored[1]}
        vertex, fragment = (source(shader, **defines) for shader in PASSES[kind])
        gpu.programs[key] = gpu.context.program(vertex_shader=vertex, fragment_shader=fragment)
    return gpu.programs[key]


def _upload(gpu: Device, drawable: Drawable, scene: Scene, kinds: tuple[str, ...], count: int,
            owned: ExitStack) -> list[tuple]:
    """Put a clip on the device: for each of ``count`` frames its buffer of moving attributes and, by pass, its calls.

    Frames of one batch need buffers of their own, since a draw call may run after the next frame was written.
    """
    def own(resource):
        owned.callback(resource.release)
        return resource

    context, vertices = gpu.context, len(drawable.labels)
    still = np.zeros(vertices, [("color", "4f4"), ("uv", "2f4"), ("label", "i4")])
    still["color"], still["label"] = drawable.colors, drawable.labels
    if scene.uv is not None:
        still["uv"] = drawable.blend @ scene.uv
    fixed, index = own(context.buffer(still)), own(context.buffer(drawable.faces))
    buffers = [own(context.buffer(reserve=vertices * 24)) for _ in range(count)]
    slots = [(buffer, {kind: [] for kind in kinds}) for buffer in buffers]
    textures = _textures(gpu, drawable.groups)
    for group in drawable.groups:
        for kind in kinds:
            program = _program(gpu, kind, group, len(scene.lights))
            if "lights" in program:
                program["lights"].write(scene.lights)
                program["ambient"].value = scene.ambient
            first, last = (3 * end for end in (group.pieces if kind == "id" else group.whole))
            for buffer, calls in slots:
                content = [_layout(program, buffer, position="3f4", normal="3f4"),
                           _layout(program, fixed, color="4f4", uv="2f4", label="i4")]
                content = [c for c in content if len(c) > 2]
                array = own(context.vertex_array(program, content, index, index_element_size=4))
                texture = textures.get((id(group.texture), group.wrap))
                calls[kind].append(Call(program, array, first, last - first, texture, group.cutoff, group.one_sided))
    return slots


def _layout(program, buffer, **formats):
    """What moderngl wants to know of a buffer; fields that the compiler found unused are stepped over."""
    used = [name for name in formats if name in program]
    pad = {name: f"{4 * int(form[:-2] or 1)}x" for name, form in formats.items()}
    return (buffer, " ".join(form if name in used else pad[name] for name, form in formats.items()), *used)


def _textures(gpu: Device, groups: tuple[Group, ...]) -> dict:
    """Textures of the groups by image and wrap. Those of the last clip are used again, as clips of one rig follow."""
    wanted = {(id(group.texture), group.wrap): group for group in groups if group.texture is not None}
    for look in set(gpu.textures) - set(wanted):
        gpu.textures.pop(look)[1].release()
    for look in set(wanted) - set(gpu.textures):
        gpu.textures[look] = wanted[look].texture, _texture(gpu.context, wanted[look])
    return {look: texture for look, (_, texture) in gpu.textures.items()}


def _texture(context, group: Group):
    image = np.ascontiguousarray(group.texture)
    texture = context.texture(image.shape[1::-1], 4, image.tobytes(), alignment=1, internal_format=SRGB8_ALPHA8)
    texture.build_mipmaps()
    texture.filter = context.LINEAR_MIPMAP_NEAREST, context.LINEAR      # trilinear costs llvmpipe a third more
    texture.repeat_x, texture.repeat_y = (way == "REPEAT" for way in group.wrap)   # the shader mirrors
    return texture


def _target(gpu: Device, kind: str, size: int, pictures: int) -> Target:
    """The target of a pass for ``pictures``, kept until another size is wanted."""
    known = gpu.targets.get(kind)
    if known is None or known.shape != (size, pictures):
        if known is not None:
            known.release()
        context, shape = gpu.context, (size, size * pictures)
        if kind == "color":
            fine = tuple(FINE * side for side in shape)
            drawn = context.framebuffer([context.texture(fine, 4)], context.depth_renderbuffer(fine))
            result = context.framebuffer([context.renderbuffer(shape, 4)])
        else:
            components, dtype = (1, "i2") if kind == "id" else (4, "f4")
            drawn = result = context.framebuffer([context.texture(shape, components, dtype=dtype, alignment=1)],
                                                 context.depth_renderbuffer(shape))
        gpu.targets[kind] = Target((size, pictures), drawn, result)
    return gpu.targets[kind]


def _draw_batch(gpu: Device, kind: str, target: Target, jobs: list[tuple], size: int) -> None:
    """Draw one picture for each job: its calls, its matrix, its rotation."""
    context, scale = gpu.context, FINE if kind == "color" else 1
    side = scale * size
    area = (0, 0, side, side * len(jobs))
    target.drawn.use()
    shade = 1.0 if kind == "color" else 0.0
    target.drawn.clear(shade, shade, shade, shade, viewport=area)       # undefined in an integer target
    if kind == "id":
        target.drawn.viewport = area
        context.enable_only(context.NOTHING)
        gpu.nothing.render(vertices=3)
    for number, (calls, matrix, turn) in enumerate(jobs):
        target.drawn.viewport = (0, number * side, side, side)
        for call in calls:
            context.enable_only(context.DEPTH_TEST | (context.CULL_FACE if call.one_sided else context.NOTHING))
            call.program["matrix"].write(matrix)
            if "turn" in call.program:
                call.program["turn"].write(turn)
            if call.texture is not None:
                call.texture.use(0)
            if "cutoff" in call.program:
                call.program["cutoff"].value = call.cutoff
            call.array.render(vertices=call.count, first=call.first)
    if kind == "color":
        target.result.use()
        target.result.viewport = (0, 0, size, size * len(jobs))
        context.enable_only(context.NOTHING)
        target.drawn.color_attachments[0].use(0)
        gpu.mean.render(vertices=3)


def _read(gpu: Device, kind: str, target: Target, result: np.ndarray) -> None:
    """Copy a batch (P, H, W) or (P, H, W, C) from its target."""
    area = (0, 0, result.shape[2], result.shape[0] * result.shape[1])
    components, dtype = {"color": (3, "f1"), "id": (1, "i2"), "surface": (4, "f4")}[kind]
    target.result.read_into(result, viewport=area, components=components, dtype=dtype, alignment=1)
