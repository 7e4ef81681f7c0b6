"""GLSL of the OpenGL engine. A pass is a vertex and a fragment shader, compiled for what a group of faces needs."""

VERSION = "#version 330\n"
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
out vec3 v_front; out vec3 v_back; out vec4 v_color; out vec2 v_uv;
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
SURFACE_VERTEX = """
uniform mat4 matrix; uniform mat3 turn;
in vec3 position; in vec3 normal; in vec4 color; in vec2 uv;
out vec4 v_color; out vec2 v_uv; out vec3 v_normal;
void main() { gl_Position = matrix * vec4(position, 1.0); v_color = color; v_uv = uv; v_normal = turn * normal; }
"""
ID_VERTEX = """
uniform mat4 matrix;
in vec3 position; in vec4 color; in vec2 uv; in int label;
out vec4 v_color; out vec2 v_uv; flat out int v_label;
void main() { gl_Position = matrix * vec4(position, 1.0); v_color = color; v_uv = uv; v_label = label; }
"""
CUT = """
uniform sampler2D image; uniform float cutoff;
in vec4 v_color; in vec2 v_uv;
vec2 place() {
    vec2 uv = v_uv;
#if MIRROR_U
    uv.x = 1.0 - abs(1.0 - mod(uv.x, 2.0));
#endif
#if MIRROR_V
    uv.y = 1.0 - abs(1.0 - mod(uv.y, 2.0));
#endif
    return uv;
}
void cut() {
#if MASKED
    float alpha = v_color.a;
    #if TEXTURED
    alpha *= textureLod(image, place(), 0.0).a;
    #endif
    if (alpha < cutoff) discard;
#endif
}
"""
COLOR = """
in vec3 v_front; in vec3 v_back;
out vec4 shown;
void main() {
    cut();
#if SIDES == 2
    vec3 color = gl_FrontFacing ? v_front : v_back;
#else
    vec3 color = v_front;
#endif
#if TEXTURED
    color = encode(color * texture(image, place()).rgb);
#endif
    shown = vec4(color, 1.0);
}
"""
ID = """
flat in int v_label;
out int id;
void main() { cut(); id = v_label; }
"""
SURFACE = """
in vec3 v_normal;
out vec4 surface;
void main() {
    cut();
    vec3 normal = v_normal / max(length(v_normal), 1e-20);
    surface = vec4(gl_FrontFacing ? normal : -normal, 1.0 / gl_FragCoord.w);
}
"""
COVER_VERTEX = """
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 1.0, 1.0); }
"""
NOTHING = """
out int id;
void main() { id = -1; }
"""
MEAN = """
uniform sampler2D image;
out vec4 shown;
void main() {
    ivec2 at = 2 * ivec2(gl_FragCoord.xy);
    shown = 0.25 * (texelFetch(image, at, 0) + texelFetch(image, at + ivec2(1, 0), 0)
                    + texelFetch(image, at + ivec2(0, 1), 0) + texelFetch(image, at + ivec2(1, 1), 0));
}
"""

PASSES = {"color": (ENCODE + COLOR_VERTEX, ENCODE + CUT + COLOR), "id": (ID_VERTEX, CUT + ID),
          "surface": (SURFACE_VERTEX, CUT + SURFACE)}      # vertex and fragment shader


def source(shader: str, **defines: int) -> str:
    """A shader's full text."""
    return VERSION + "".join(f"#define {name} {value}\n" for name, value in defines.items()) + shader
