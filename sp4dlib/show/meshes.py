"""Meshes that a reader turns (plotly) and stills of them (Polyscope)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sp4dlib.rigs import Skeleton
from sp4dlib.show.style import id_colors

LIGHT = dict(ambient=0.55, diffuse=0.6, specular=0.08, roughness=0.9)


def _rgb_strings(colors: np.ndarray) -> list[str]:
    colors = np.asarray(colors)
    if np.issubdtype(colors.dtype, np.floating):
        colors = (np.clip(colors, 0, 1) * 255).round()
    return ["#" + bytes(row).hex() for row in colors[:, :3].astype(np.uint8)]


def _face_colors(faces: np.ndarray, labels, colors) -> list[str]:
    """One colour string a face, from vertex labels (N,), vertex or face colours (N | F, 3)."""
    if labels is not None:
        labels = np.asarray(labels)
        corner = labels[faces]
        face_label = np.where(corner[:, 1] == corner[:, 2], corner[:, 1], corner[:, 0])     # majority of three
        table = id_colors(int(labels.max()) + 1) if colors is None else np.asarray(colors)
        return _rgb_strings(table[face_label])
    colors = np.asarray(colors)
    return _rgb_strings(colors if len(colors) == len(faces) else colors[faces].mean(axis=1))


def _weld(rows: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of one vertex for each distinct row (N, D), and the faces over these: half the payload of a page."""
    _, index, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return index, inverse.reshape(-1)[faces]


def _layout(fig, points: np.ndarray, title: str, alt: str, height: int) -> None:
    low, high = points.reshape(-1, 3).min(0), points.reshape(-1, 3).max(0)
    pad = 0.05 * (high - low).max()
    # plotly's z is up and ours is y: the data keep their names, the camera looks with y up.
    axis = {f"{name}axis": dict(range=[float(low[k] - pad), float(high[k] + pad)], visible=False)
            for k, name in enumerate("xyz")}
    fig.update_layout(
        title=dict(text=title, font=dict(size=14)), height=height, margin=dict(l=0, r=0, t=36 if title else 4, b=4),
        paper_bgcolor="white", showlegend=False, meta={"alt": alt or title},
        scene=dict(aspectmode="data", camera=dict(up=dict(x=0, y=1, z=0), eye=dict(x=1.35, y=0.6, z=1.5)), **axis))


def _bones(skeleton: Skeleton, positions: np.ndarray, shown: np.ndarray) -> dict:
    """Line coordinates of the bones between ``shown`` joints (J,) at ``positions`` (J, 3)."""
    out = {"x": [], "y": [], "z": []}
    for j, parent in enumerate(skeleton.parents):
        if parent >= 0 and shown[j] and shown[parent]:
            for k, name in enumerate("xyz"):
                out[name] += [float(positions[parent, k]), float(positions[j, k]), None]
    return out


def mesh_player(poses, faces, labels=None, colors=None, *, skeleton: Skeleton | None = None, joints=None, shown=None,
                title: str = "", alt: str = "", fps: float = 12, height: int = 460):
    """Plotly figure of a mesh that moves, one colour a part, with play, pause and a slider.

    Parameters
    ----------
    poses : array_like, shape (T, N, 3) or (N, 3)
        One still pose, or frames.
    faces : array_like of int, shape (F, 3)
    labels : array_like of int, shape (N,), or None
        Part of each vertex.
    colors : array_like, shape (K, 3) with labels, else (N, 3) or (F, 3)
        uint8 or float in [0, 1]; without it, labels take the palette.
    skeleton : Skeleton or None
        Drawn as lines over a translucent mesh.
    joints : array_like, shape (T, J, 3), or None
        Moving joint positions; without it the skeleton stands at bind pose.
    shown : array_like of bool, shape (J,), or None
        Joints whose bones are drawn, by default all. Artists' files hold handles that move only other joints.
    title, alt : str
    fps : float
    height : int
        Pixels.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    poses = np.asarray(poses, np.float32)
    poses = poses[None] if poses.ndim == 2 else poses
    faces = np.asarray(faces)
    if labels is None and colors is None:
        labels = np.zeros(poses.shape[1], int)

    painted = _face_colors(faces, labels, colors)
    index, faces = _weld(poses.transpose(1, 0, 2).reshape(poses.shape[1], -1), faces)
    poses = poses[:, index]

    def place(vertices):
        return dict(x=vertices[:, 0], y=vertices[:, 1], z=vertices[:, 2])

    data = [go.Mesh3d(**place(poses[0]), i=faces[:, 0], j=faces[:, 1], k=faces[:, 2], lighting=LIGHT,
                      facecolor=painted, flatshading=True, hoverinfo="skip",
                      lightposition=dict(x=1000, y=2000, z=3000), opacity=1 if skeleton is None else 0.45)]
    if skeleton is not None:
        moving = np.repeat(skeleton.joints[None], len(poses), axis=0) if joints is None else np.asarray(joints)
        shown = np.ones(len(skeleton), bool) if shown is None else np.asarray(shown, bool)
        data.append(go.Scatter3d(**_bones(skeleton, moving[0], shown), mode="lines+markers", hoverinfo="skip",
                                 line=dict(color="#222222", width=5), marker=dict(size=3, color="#222222")))
    fig = go.Figure(data)
    _layout(fig, poses, title, alt, height)
    if len(poses) == 1:
        return fig
    frames = []
    for t, vertices in enumerate(poses):
        moved = [go.Mesh3d(**place(vertices))]
        if skeleton is not None:
            moved.append(go.Scatter3d(**_bones(skeleton, moving[t], shown)))
        frames.append(go.Frame(data=moved, name=str(t), traces=list(range(len(moved)))))
    fig.frames = frames
    play = {"frame": {"duration": 1000 / fps, "redraw": True}, "mode": "immediate", "transition": {"duration": 0},
            "fromcurrent": False}
    fig.update_layout(
        updatemenus=[dict(type="buttons", direction="left", x=0.02, y=0.02, xanchor="left", yanchor="bottom", buttons=[
            dict(label="Play", method="animate", args=[None, play]),
            dict(label="Pause", method="animate", args=[[None], {"mode": "immediate", "frame": {"duration": 0}}])])],
        sliders=[dict(x=0.25, len=0.72, y=0.02, yanchor="bottom", pad=dict(t=0, b=4), currentvalue=dict(visible=False),
                      steps=[dict(method="animate", label=str(t), args=[[str(t)], play]) for t in range(len(poses))])])
    return fig


def weights_viewer(vertices, faces, weights, names: Sequence[str], *, title: str = "", alt: str = "",
                   height: int = 460):
    """Plotly figure of skinning weights on a mesh, one bone at a time from a menu.

    Parameters
    ----------
    vertices : array_like, shape (N, 3)
    faces : array_like of int, shape (F, 3)
    weights : array_like, shape (N, J)
    names : sequence of str, length J
    title, alt : str
    height : int
        Pixels.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces)
    weights = np.asarray(weights, np.float32)
    index, faces = _weld(np.concatenate([vertices, weights], axis=1), faces)
    vertices, weights = vertices[index], weights[index]
    fig = go.Figure(go.Mesh3d(
        x=vertices[:, 0], y=vertices[:, 1], z=vertices[:, 2], i=faces[:, 0], j=faces[:, 1], k=faces[:, 2],
        intensity=weights[:, 0], cmin=0, cmax=1, colorscale="Cividis", lighting=LIGHT, flatshading=False,
        lightposition=dict(x=1000, y=2000, z=3000), colorbar=dict(title="weight", thickness=12, len=0.7)))
    _layout(fig, vertices, title, alt, height)
    fig.update_layout(updatemenus=[dict(x=0.02, y=0.98, xanchor="left", yanchor="top", buttons=[
        dict(label=name, method="restyle", args=[{"intensity": [weights[:, j]]}]) for j, name in enumerate(names)])])
    return fig


@lru_cache(maxsize=1)
def polyscope_works() -> bool:
    """True where Polyscope can draw without a window.

    Asked of a second process, because Polyscope ends the process (signal 11) where libEGL is missing, and that would
    end the kernel.
    """
    code = "import polyscope as ps; ps.set_verbosity(0); ps.init('openGL3_egl'); ps.screenshot_to_buffer()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def polyscope_shot(vertices, faces, labels=None, *, values=None, skeleton: Skeleton | None = None,
                   azimuth: float = 40, elevation: float = 15, size: tuple[int, int] = (640, 420)) -> np.ndarray:
    """Render a mesh off screen by Polyscope: part colours or weights, and a skeleton inside.

    Ask :func:`polyscope_works` first: where there is no EGL, Polyscope ends the process.

    Parameters
    ----------
    vertices : array_like, shape (N, 3)
    faces : array_like of int, shape (F, 3)
    labels : array_like of int, shape (N,), optional
    values : array_like, shape (N,), optional
        In [0, 1], such as one column of skinning weights; instead of labels.
    skeleton : Skeleton, optional
        Drawn as tubes within the mesh, which lets light through.
    azimuth, elevation : float
        Of the camera, in degrees; 0, 0 looks from +z.
    size : (int, int)
        Width and height in pixels.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    import polyscope as ps

    if not ps.is_initialized():
        ps.set_verbosity(0)
        ps.set_use_prefs_file(False)
        ps.init("openGL3_egl")
        ps.set_ground_plane_mode("shadow_only")
    ps.set_window_size(*size)
    ps.set_transparency_mode("none" if skeleton is None else "pretty")
    ps.remove_all_structures()
    vertices = np.asarray(vertices, np.float64)
    mesh = ps.register_surface_mesh("mesh", vertices, np.asarray(faces), smooth_shade=True,
                                    transparency=1.0 if skeleton is None else 0.4)
    if labels is not None:
        labels = np.asarray(labels)
        mesh.add_color_quantity("part", id_colors(int(labels.max()) + 1)[labels] / 255, defined_on="vertices",
                                enabled=True)
    elif values is not None:
        mesh.add_scalar_quantity("weight", np.asarray(values), defined_on="vertices", enabled=True, cmap="viridis",
                                 vminmax=(0, 1))
    if skeleton is not None:
        bones = np.array([(parent, j) for j, parent in enumerate(skeleton.parents) if parent >= 0]).reshape(-1, 2)
        ps.register_curve_network("skeleton", skeleton.joints, bones, color=(0.1, 0.1, 0.1), radius=0.004)
    low, high = vertices.min(0), vertices.max(0)
    turn, lift = np.radians([azimuth, elevation])
    away = np.array([np.cos(lift) * np.sin(turn), np.sin(lift), np.cos(lift) * np.cos(turn)])
    ps.look_at(tuple((low + high) / 2 + 1.15 * np.linalg.norm(high - low) * away), tuple((low + high) / 2))
    image = ps.screenshot_to_buffer(transparent_bg=False)[..., :3].copy()       # the buffer is reused by the next shot
    ps.remove_all_structures()
    return image
