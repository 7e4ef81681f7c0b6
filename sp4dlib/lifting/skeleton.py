"""A tree of joints from part labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.spatial import cKDTree

from sp4dlib.lifting.interior import Interior, part_interior
from sp4dlib.lifting.surface import Borders, Surface, check_labels, part_borders, weld
from sp4dlib.lifting.symmetry import Mirror, find_mirror
from sp4dlib.rigs.rig import Skeleton

PROBES = 1000       # points of a part, evenly taken, whose distance to other shells is measured
END = "_end"        # suffix of joints that carry no weight and only give the last bone its tip
LOOSE = 0.01        # two parts that part company at their joint by this share of the longest side lose half their link
STIFF = 0.02        # mean square turn, rad^2, below which poses tell less of a joint's place than the interface does


@dataclass(frozen=True)
class _Links:
    """Which parts could hang together, by how much, and where."""

    lengths: np.ndarray         # (K, K) symmetric, common border, 0 = not at all
    places: np.ndarray          # (K, K, 3)


def extract_skeleton(mesh, labels, names=None, *, poses=None, ends: bool = True, return_parts: bool = False):
    """One joint for each part, at the interface with its parent part.

    The root is the part with the largest cube root of its volume over its mean distance to all others, on the plane
    of symmetry if there is one. From it the tree grows by the strongest link, that of a part a to a part p of the tree
    being

    ``L / d * exp((D_a - D_p) / d)``,

    where L is the length of their common border, d the way from a's centroid through the interface to p's, and D the
    shortest such way from the root. Long borders with near parts bind, and so does hanging a part from what is nearer
    to the root: where several parts touch one another, as in a palm, they are siblings rather than a chain. Links of
    mirrored pairs are averaged. Shells in contact inside the solid count by their contact's perimeter; those that touch
    nothing are hung on the part that comes nearest.

    The root's joint is the centroid of its volume. Every other joint is the centroid of the interface with its parent
    (:func:`sp4dlib.lifting.interior.part_interior`), mirrored pairs and the parts between them made symmetric. Known
    ``poses`` say more: a joint is the point that both parts' rigid motions carry to one place, by least squares, as
    far as they turn against each other; and parts whose motions allow no such point are not linked.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    labels : array_like of int, shape (N,)
        Part of each vertex. Ids without vertices get no joint.
    names : sequence of str, optional
        Name of each part id; default ``part_<id>``, with ``_left`` or ``_right`` (glTF's: left is +x) where the shape
        is symmetric; both parts of a pair have the lower id in their names.
    poses : array_like, shape (T, N, 3), optional
        The vertices of the mesh in known poses.
    ends : bool
        Give leaf parts a weightless end joint ``<name>_end`` at their tip.
    return_parts : bool
        Also return the part of each joint.

    Returns
    -------
    skeleton : Skeleton
        Bind matrices are translations: all joints have the world's axes, so that a rotation means the same at each.
    joint_part : ndarray of int, shape (J,), only with ``return_parts``
        Part id of each joint, -1 at end joints. Joints come from the root on, parents first, ends last.

    Raises
    ------
    ValueError
        If labels or poses do not fit the mesh, or a name is missing or used twice.
    """
    surface = weld(mesh)
    labels = surface.gather(check_labels(labels, len(surface.index)))
    ids, compact = np.unique(labels, return_inverse=True)
    count = len(ids)
    mirror = find_mirror(surface, compact, count) if count > 1 else None
    names = _part_names(names, ids, surface, compact, mirror)
    motions = None if poses is None else _rigid_motions(surface, compact, count, poses)
    borders = part_borders(surface, compact)
    interior = part_interior(surface, compact, borders, count)
    links = _part_links(surface, compact, borders, interior)
    order, parents = _grow(surface, compact, links, interior, mirror, motions)
    positions = _joints(links, interior, parents, mirror, motions)
    rank = np.argsort(order)
    tree = np.where(parents[order] < 0, -1, rank[parents[order]])
    joints, joint_names, joint_part = positions[order], [names[p] for p in order], ids[order]
    if ends:
        leaves = np.setdiff1d(np.arange(len(order)), tree)
        tips = [_tip(surface.vertices[compact == order[leaf]], joints[leaf], interior.centers[order[leaf]])
                for leaf in leaves]
        tree = np.concatenate([tree, leaves])
        joints = np.concatenate([joints, np.reshape(tips, (-1, 3))])
        joint_names += [joint_names[leaf] + END for leaf in leaves]
        joint_part = np.concatenate([joint_part, np.full(len(leaves), -1)])
    bind = np.tile(np.eye(4), (len(joints), 1, 1))
    bind[:, :3, 3] = joints
    skeleton = Skeleton(tree, tuple(joint_names), bind)
    return (skeleton, joint_part) if return_parts else skeleton


def _part_names(names, ids: np.ndarray, surface: Surface, labels: np.ndarray, mirror: Mirror | None) -> list[str]:
    """Names of the parts that occur."""
    if names is None:
        out = [f"part_{i}" for i in ids]
        if mirror is not None:
            for part, partner in enumerate(mirror.partner):
                if partner >= 0 and partner != part:
                    offset = surface.vertices[labels == part].mean(0) - surface.vertices[labels == partner].mean(0)
                    side = "left" if offset @ mirror.normal > 0 else "right"
                    out[part] = f"part_{min(ids[part], ids[partner])}_{side}"
        return out
    names = list(names)
    if len(names) <= ids.max():
        raise ValueError(f"labels go up to part {ids.max()}, but only {len(names)} names were given")
    chosen = [str(names[i]) for i in ids]
    if len(set(chosen)) < len(chosen):
        raise ValueError("two parts have one name: " + ", ".join(sorted({n for n in chosen if chosen.count(n) > 1})))
    return chosen


def _part_links(surface: Surface, labels: np.ndarray, borders: Borders, interior: Interior) -> _Links:
    """Links by common border; parts in no contact are joined by their nearest points until all hang together."""
    count = len(interior.volumes)
    lengths, places = np.zeros((count, count)), interior.places.copy()
    floor = 1e-12 * surface.size
    for (a, b), length in zip(borders.pairs, np.maximum(borders.lengths, floor)):
        lengths[a, b] += length
        lengths[b, a] += length
    # Parts of one shell that meet only inside, as two thighs do, merely lie side by side.
    member = np.zeros((count, surface.shells.max() + 1), bool)
    member[labels, surface.shells] = True
    apart = (lengths == 0) & ~(csr_matrix(member, dtype=int) @ csr_matrix(member, dtype=int).T).toarray().astype(bool)
    lengths += np.where(apart, 2 * np.sqrt(np.pi * interior.contact), 0)
    island = connected_components(csr_matrix(lengths > 0), directed=False)[1]
    if island.max() == 0:
        return _Links(lengths, places)
    points = [surface.vertices[labels == part] for part in range(count)]
    trees = [cKDTree(p) for p in points]
    probes = [p[::-(-len(p) // PROBES)] for p in points]
    gaps = [(trees[a].query(probes[b])[0].min(), a, b) for a in range(count) for b in range(a)
            if island[a] != island[b]]
    weakest = lengths[lengths > 0].min(initial=surface.size)
    for gap, a, b in sorted(gaps):                      # Kruskal: the narrowest gap first
        if island[a] == island[b]:
            continue
        # Any link across a gap is weaker than any border, and a wider gap is weaker than a narrow one.
        lengths[a, b] = lengths[b, a] = weakest * 1e-3 / (1 + gap / surface.size)
        places[a, b] = places[b, a] = _contact(points[a], trees[a], points[b], gap)
        island[island == island[a]] = island[b]
    return _Links(lengths, places)


def _contact(first: np.ndarray, tree: cKDTree, second: np.ndarray, gap: float) -> np.ndarray:
    """Where two shells come together: mean of the nearly nearest points, half-way to the other shell."""
    reach = gap + 0.05 * min(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max()) * (1 + 1e-9)
    distance, nearest = tree.query(second)
    close = distance <= reach
    return (second[close].mean(0) + first[nearest[close]].mean(0)) / 2


def _grow(surface: Surface, labels: np.ndarray, links: _Links, interior: Interior, mirror: Mirror | None,
          motions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Parts in the order in which they join the tree (K,), and the parent of each part (K,), -1 at the root."""
    count = len(interior.volumes)
    half = np.linalg.norm(links.places - interior.centers[:, None], axis=-1)
    linked = links.lengths > 0
    way = np.where(linked, np.maximum(half + half.T, 1e-9 * surface.size), 0)
    far = shortest_path(csr_matrix(way), directed=False)
    areas = np.bincount(labels, surface.areas, count) + np.finfo(float).tiny
    middling = np.cbrt(interior.volumes) / np.maximum(far @ areas, np.finfo(float).tiny)
    if mirror is not None and (mirror.partner == np.arange(count)).any():
        middling = np.where(mirror.partner == np.arange(count), middling, -1)
    root = int(middling.argmax())
    safe = np.where(linked, way, 1)
    score = np.log(np.where(linked, links.lengths, 1) / safe) + (far[root][:, None] - far[root][None]) / safe
    if motions is not None:
        score -= np.log1p((_strain(surface, links, motions) / (LOOSE * surface.size)) ** 2)
    if mirror is not None:
        score = _averaged(score, linked, mirror.partner)
    score = np.where(linked, score, -np.inf)            # [child, parent]
    order, parents = [root], np.full(count, -1)
    best, above = score[:, root].copy(), np.full(count, root)
    best[root] = -np.inf
    free = np.ones(count, bool)
    free[root] = False
    while free.any():
        child = int(np.where(free, best, -np.inf).argmax())
        parents[child] = above[child]
        order.append(child)
        free[child] = False
        closer = free & (score[:, child] > best)
        best[closer], above[closer] = score[closer, child], child
    return np.array(order), parents


def _averaged(score: np.ndarray, linked: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Scores (K, K) averaged with those of the mirrored pair of parts, where both pairs are linked."""
    paired = np.flatnonzero(partner >= 0)
    here, there = np.ix_(paired, paired), np.ix_(partner[paired], partner[paired])
    out = score.copy()
    out[here] = np.where(linked[here] & linked[there], (score[here] + score[there]) / 2, score[here])
    return out


def _joints(links: _Links, interior: Interior, parents: np.ndarray, mirror: Mirror | None,
            motions: np.ndarray | None) -> np.ndarray:
    """Place of each part's joint, shape (K, 3)."""
    positions = interior.centers.copy()
    children = np.flatnonzero(parents >= 0)
    positions[children] = links.places[children, parents[children]]
    if mirror is not None:
        partner, even = mirror.partner, positions.copy()
        for part in np.flatnonzero(partner >= 0):
            up, other = parents[part], parents[partner[part]]
            if up == other == -1 or (up >= 0 and other >= 0 and partner[up] == other):      # the tree is even there
                even[part] = (positions[part] + mirror.image(positions[partner[part]])) / 2
        positions = even
    if motions is not None:
        for part in children:
            positions[part] = _pivot(motions[part], motions[parents[part]], positions[part])
    return positions


def _rigid_motions(surface: Surface, labels: np.ndarray, count: int, poses) -> np.ndarray:
    """Rigid motion that carries each part to each pose best (Kabsch 1976), shape (K, T, 3, 4)."""
    poses = np.asarray(poses, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (len(surface.index), 3) or not np.isfinite(poses).all():
        raise ValueError(f"poses must be finite vertices of shape (T, {len(surface.index)}, 3); got {poses.shape}"
                         + ("" if np.isfinite(poses).all() else " with NaN or infinity"))
    first = np.zeros(len(surface.vertices), int)
    first[surface.index] = np.arange(len(surface.index))
    weight = np.maximum(surface.areas, 1e-9 * surface.areas.mean() + np.finfo(float).tiny)
    out = np.zeros((count, len(poses), 3, 4))
    for part in range(count):
        members = np.flatnonzero(labels == part)
        share = weight[members] / weight[members].sum()
        rest, moved = surface.vertices[members], poses[:, first[members]]
        center, centers = share @ rest, np.einsum("n,tnk->tk", share, moved)
        u, _, v = np.linalg.svd(np.einsum("n,tni,nj->tij", share, moved - centers[:, None], rest - center))
        u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]
        out[part, :, :, :3] = u @ v
        out[part, :, :, 3] = centers - (u @ v) @ center
    return out


def _pivot(first: np.ndarray, second: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """The point of rest, shape (3,), that two parts' motions (T, 3, 4) keep together; ``guess`` where they say nothing.

    ``argmin_x  mean_t |A_t x - B_t x|^2 + STIFF |x - guess|^2``: along a hinge's axis, and for parts that hardly turn
    against each other, x stays at the guess.
    """
    apart = first - second
    turn = apart[:, :, :3]
    system = np.einsum("tij,tik->jk", turn, turn) / len(turn) + STIFF * np.eye(3)
    right = STIFF * guess - np.einsum("tij,ti->j", turn, apart[:, :, 3]) / len(turn)
    return np.linalg.solve(system, right)


def _strain(surface: Surface, links: _Links, motions: np.ndarray) -> np.ndarray:
    """How far each two linked parts part company at their best joint, root mean square over poses, (K, K)."""
    out = np.zeros(links.lengths.shape)
    for a, b in np.argwhere(np.triu(links.lengths) > 0):
        pivot = np.append(_pivot(motions[a], motions[b], links.places[a, b]), 1)
        out[a, b] = out[b, a] = np.sqrt(np.mean(np.sum(((motions[a] - motions[b]) @ pivot) ** 2, axis=-1)))
    return out


def _tip(points: np.ndarray, joint: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """Centre of the far end of a part: mean of the points ahead whose distance is at least 0.85 of the largest."""
    axis = centroid - joint
    length = np.linalg.norm(axis)
    # A root part alone, or one that lies round its joint evenly, has no direction of its own: its longest one does.
    axis = axis / length if length > 1e-9 * max(np.ptp(points), 1e-300) else np.eye(3)[np.ptp(points, axis=0).argmax()]
    reach = np.linalg.norm(points - joint, axis=1)
    ahead = (points - joint) @ axis >= 0
    reach = np.where(ahead, reach, -1) if ahead.any() else reach
    return points[reach >= 0.85 * reach.max()].mean(0)
