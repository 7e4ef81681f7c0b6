"""The OpenGL engine: a standalone EGL context, on a GPU or on Mesa's llvmpipe.

Each frame is drawn twice: colour into a multisampled target, ids into an integer target of one sample at the pixel
centre. All views of a frame are stacked in one tall target, so that one read returns them in the order of the result.
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

SAMPLES = 4
SRGB8_ALPHA8 = 0x8C43
TILE_PIXELS = 2**20           # of one target: larger ones are no faster and cost memory at every sample

VERSION = "#version 400\n"       # 4.0: attributes at each sample
ENCODE = """
vec3 encode(vec3 linear) {
    vec3 c = clamp(linear, 0.0, 1.0);
    return mix(12.92 * c, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}
"""
# Light is wide and soft, so it is computed at the vertices: llvmpipe pays for every 4x4 block that a triangle touches.
COLOR_VERTEX = """
uniform mat4 matrix; uniform vec4 lights[LIGHTS]; uniform float ambient;
in vec3 position; in vec3 normal; in vec4 color; in vec2 uv;
AT out vec3 v_front; AT out vec3 v_back; AT out vec4 v_color; AT out vec2 v_uv;
float lit(vec3 n) {
    float light = ambient;
    for (int i = 0; i < LIGHTS; i++) {
        float wrapped = 0.5 + 0.5 * dot(n, lights[i].xyz);
        light += lights[i].w * wrapped * wrapped;
    }
    return light;
}
void main() {
    gl_Position = matrix * vec4(position, 1.0);
    v_color = color; v_uv = uv;
#if TEXTURED
    v_front = color.rgb * lit(normal); v_back = color.rgb * lit(-normal);
#else
    v_front = encode(color.rgb * lit(normal)); v_back = encode(color.rgb * lit(-normal));
#endif
}
"""
ID_VERTEX = """
uniform mat4 matrix;
in vec3 position; in vec4 color; in vec2 uv; in int label;
out vec4 v_color; out vec2 v_uv; flat out int v_label;
void main() { gl_Position = matrix * vec4(position, 1.0); v_color = color; v_uv = uv; v_label = label; }
"""
CUT = """
uniform sampler2D image; uniform float cutoff;
AT in vec4 v_color; AT in vec2 v_uv;
void cut() {
#if MASKED
    float alpha = v_color.a;
    #if TEXTURED
    alpha *= textureLod(image, v_uv, 0.0).a;
    #endif
    if (alpha < cutoff) discard;
#endif
}
"""
COLOR = """
AT in vec3 v_front; AT in vec3 v_back;
out vec4 shown;
void main() {
    cut();
#if SIDES == 2
    vec3 color = gl_FrontFacing ? v_front : v_back;
#else
    vec3 color = v_front;
#endif
#if TEXTURED
    color = encode(color * texture(image, v_uv).rgb);
#endif
    shown = vec4(color, 1.0);
}
"""
ID = """
flat in int v_label;
out int id;
void main() { cut(); id = v_label; }
"""
NOTHING_VERTEX = """
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 1.0, 1.0); }
"""
NOTHING = """
out int id;
void main() { id = -1; }
"""

_thread = threading.local()
_owner: int | None = None       # process that first made a context


@dataclass
class Device:
    """A context with what outlives a clip: programs by variant, the latest targets."""

    context: object
    nothing: object               # vertex array that covers the target with background ids
    programs: dict
    targets: Targets | None = None


@dataclass(frozen=True)
class Targets:
    """Framebuffers that hold some views on top of one another."""

    shape: tuple[int, int]        # pixels of a view's side, views
    color: object
    resolved: object
    ids: object

    def release(self) -> None:
        for target in (self.color, self.resolved, self.ids):
            for attachment in (*target.color_attachments, target.depth_attachment):
                if attachment is not None:
                    attachment.release()
            target.release()


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

            context = moderngl.create_context(standalone=True, backend="egl", require=400)
        except Exception as error:      # glcontext raises plain Exception
            raise NoOpenGL(f"cannot make an OpenGL context ({error}); install libegl1 and libgl1-mesa-dri, or a GPU "
                           "driver with EGL") from error
        _owner = os.getpid()
        program = context.program(vertex_shader=VERSION + NOTHING_VERTEX, fragment_shader=VERSION + NOTHING)
        _thread.device = Device(context, context.vertex_array(program, []), {})
    return _thread.device


def draw(scene: Scene, cameras: Cameras, rgb: np.ndarray, ids: np.ndarray) -> None:
    """Fill ``rgb`` (T, V, H, W, 3) and ``ids`` (T, V, H, W) with pictures of ``scene``."""
    gpu = device()
    drawable = cut(scene)
    size, views = cameras.size, len(cameras)
    tiles = max(1, min(views, TILE_PIXELS // size**2, gpu.context.info["GL_MAX_TEXTURE_SIZE"] // size))
    # sqrt(3) / 2 holds the unit cube; depth keeps the same steps for all clips whose cameras were fitted.
    radius = max(0.87, 1.001 * float(np.sqrt(np.einsum("tnc,tnc->tn", scene.positions, scene.positions).max())))
    matrices = [_matrix(cameras, view, radius) for view in range(views)]
    with gpu.context, ExitStack() as owned:
        moving, calls = _upload(gpu, drawable, scene, owned)
        targets = _targets(gpu, size, tiles)
        for t, (positions, normals) in enumerate(zip(scene.positions, scene.normals)):
            moving.write(drawable.blend @ np.hstack([positions, normals]))
            for first in range(0, views, tiles):
                part = slice(first, first + tiles)
                _draw_views(gpu, targets, calls, matrices[part], size)
                _read(gpu, targets, rgb[t, part], ids[t, part])


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
    key = (kind, group.texture is not None, group.cutoff is not None, group.one_sided, lights)
    if key not in gpu.programs:
        # A hole needs a decision at every sample; elsewhere attributes are taken in the covered part of the pixel.
        at = "" if kind == "id" else "sample" if group.cutoff is not None else "centroid"
        defines = {"TEXTURED": int(key[1]), "MASKED": int(key[2]), "SIDES": 2 - key[3], "LIGHTS": lights, "AT": at}
        head = VERSION + "".join(f"#define {name} {value}\n" for name, value in defines.items())
        vertex, fragment = {"color": (ENCODE + COLOR_VERTEX, ENCODE + CUT + COLOR), "id": (ID_VERTEX, CUT + ID)}[kind]
        gpu.programs[key] = gpu.context.program(vertex_shader=head + vertex, fragment_shader=head + fragment)
    return gpu.programs[key]


def _upload(gpu: Device, drawable: Drawable, scene: Scene, owned: ExitStack):
    """Put a clip on the device: the buffer of moving attributes, and for each pass its draw calls."""
    def own(resource):
        owned.callback(resource.release)
        return resource

    context, count = gpu.context, len(drawable.labels)
    still = np.zeros(count, [("color", "4f4"), ("uv", "2f4"), ("label", "i4")])
    still["color"], still["label"] = drawable.colors, drawable.labels
    if scene.uv is not None:
        still["uv"] = drawable.blend @ scene.uv
    fixed, moving = own(context.buffer(still)), own(context.buffer(reserve=count * 24))
    index = own(context.buffer(drawable.faces))
    calls = {"color": [], "id": []}
    textures = {}
    for group in drawable.groups:
        if group.texture is not None and id(group.texture) not in textures:
            textures[id(group.texture)] = own(_texture(context, group.texture))
        for kind, listed in calls.items():
            program = _program(gpu, kind, group, len(scene.lights))
            if "lights" in program:
                program["lights"].write(scene.lights)
                program["ambient"].value = scene.ambient
            content = [_layout(program, moving, position="3f4", normal="3f4"),
                       _layout(program, fixed, color="4f4", uv="2f4", label="i4")]
            array = own(context.vertex_array(program, [c for c in content if len(c) > 2], index, index_element_size=4))
            first, last = (3 * end for end in (group.whole if kind == "color" else group.pieces))
            listed.append(Call(program, array, first, last - first, textures.get(id(group.texture)),
                               group.cutoff, group.one_sided))
    return moving, calls


def _layout(program, buffer, **formats):
    """What moderngl wants to know of a buffer; fields that the compiler found unused are stepped over."""
    used = [name for name in formats if name in program]
    pad = {name: f"{4 * int(form[:-2] or 1)}x" for name, form in formats.items()}
    return (buffer, " ".join(form if name in used else pad[name] for name, form in formats.items()), *used)


def _texture(context, image: np.ndarray):
    image = np.ascontiguousarray(image)
    texture = context.texture(image.shape[1::-1], 4, image.tobytes(), alignment=1, internal_format=SRGB8_ALPHA8)
    texture.build_mipmaps()                       # also sets trilinear filtering; texels wrap, glTF's default
    return texture


def _targets(gpu: Device, size: int, tiles: int) -> Targets:
    """Framebuffers for ``tiles`` views, kept until another size is wanted."""
    if gpu.targets is None or gpu.targets.shape != (size, tiles):
        if gpu.targets is not None:
            gpu.targets.release()
        context, shape = gpu.context, (size, size * tiles)
        color = context.framebuffer([context.renderbuffer(shape, 4, samples=SAMPLES)],
                                    context.depth_renderbuffer(shape, samples=SAMPLES))
        resolved = context.framebuffer([context.renderbuffer(shape, 4)])
        ids = context.framebuffer([context.texture(shape, 1, dtype="i2", alignment=1)],
                                  context.depth_renderbuffer(shape))
        gpu.targets = Targets((size, tiles), color, resolved, ids)
    return gpu.targets


def _draw_views(gpu: Device, targets: Targets, calls: dict, matrices: list, size: int) -> None:
    context = gpu.context
    context.front_face = "cw"                     # as seen in an image whose y points down
    area = (0, 0, size, size * len(matrices))
    for kind, target in (("color", targets.color), ("id", targets.ids)):
        target.use()
        if kind == "color":
            target.clear(1.0, 1.0, 1.0, 1.0, viewport=area)
        else:
            target.clear(viewport=area)           # depth; what it leaves in an integer target is undefined
            target.viewport = area
            context.enable_only(context.NOTHING)
            gpu.nothing.render(vertices=3)
        for view, matrix in enumerate(matrices):
            target.viewport = (0, view * size, size, size)
            for call in calls[kind]:
                context.enable_only(context.DEPTH_TEST | (context.CULL_FACE if call.one_sided else context.NOTHING))
                call.program["matrix"].write(matrix)
                if call.texture is not None:
                    call.texture.use(0)
                if "cutoff" in call.program:
                    call.program["cutoff"].value = call.cutoff
                call.array.render(vertices=call.count, first=call.first)


def _read(gpu: Device, targets: Targets, rgb: np.ndarray, ids: np.ndarray) -> None:
    area = (0, 0, ids.shape[2], ids.shape[0] * ids.shape[1])
    gpu.context.copy_framebuffer(targets.resolved, targets.color)
    targets.resolved.read_into(rgb, viewport=area, components=3, alignment=1)
    targets.ids.read_into(ids, viewport=area, components=1, dtype="i2", alignment=1)
