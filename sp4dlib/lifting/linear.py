"""The Laplacian of any triangle mesh, and one factorisation for many right-hand sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.linalg import splu

from sp4dlib.lifting.delaunay import delaunay_laplacian

FLAT = 1e-6         # double area over the longest side squared, at least, of a triangle of the plain Laplacian
COLUMNS = 32        # right-hand sides solved at a time: cholespy takes 128 at most, and fewer need less memory


def laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[csc_matrix, np.ndarray]:
    """Tufted intrinsic Delaunay Laplacian (Sharp and Crane 2020, "A Laplacian for Nonmanifold Triangle Meshes").

    Its off-diagonal entries are never positive, whatever the triangles, so that harmonic functions obey the maximum
    principle; the plain cotangent Laplacian of a decimated mesh does not, and gives weights outside [0, 1]. Where the
    mesh is edge-manifold and sound, :func:`sp4dlib.lifting.delaunay.delaunay_laplacian` makes the same in less time.

    Parameters
    ----------
    vertices : ndarray, shape (M, 3)
    faces : ndarray of int, shape (G, 3)

    Returns
    -------
    stiffness : csc_matrix, shape (M, M)
        Positive semi-definite, no unit.
    mass : ndarray, shape (M,)
        Area of each vertex.
    """
    made = delaunay_laplacian(vertices, faces)
    if made is not None:
        return made
    import robust_laplacian

    stiffness, mass = robust_laplacian.mesh_laplacian(np.ascontiguousarray(vertices), np.ascontiguousarray(faces))
    return csc_matrix(stiffness), mass.diagonal()


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[csc_matrix, np.ndarray]:
    """Plain cotangent Laplacian; parameters and returns as for :func:`laplacian`.

    It joins vertices of one triangle only, where :func:`laplacian` flips edges, and has entries of either sign. It is
    summed over triangles, whose areas are held above 0, so that slivers leave it positive semi-definite.
    """
    count = len(vertices)
    corners = vertices[faces]
    edges = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]               # opposite each corner
    square = np.sum(edges * edges, axis=2)
    double_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    held = np.maximum(double_area, np.maximum(FLAT * square.max(1), np.finfo(float).tiny))
    products = np.einsum("gik,gjk->gij", edges, edges) / (2 * held[:, None, None])
    row, column = np.broadcast_arrays(faces[:, :, None], faces[:, None, :])
    stiffness = coo_matrix((products.ravel(), (row.ravel(), column.ravel())), shape=(count, count))
    return csc_matrix(stiffness), np.bincount(faces.ravel(), np.repeat(double_area / 6, 3), minlength=count)


def solve(matrix, right: np.ndarray) -> np.ndarray:
    """Solve ``matrix @ x = right`` for all columns with one sparse Cholesky factorisation.

    Parameters
    ----------
    matrix : sparse matrix, shape (n, n)
        Symmetric positive definite.
    right : ndarray, shape (n, K)

    Returns
    -------
    ndarray, shape (n, K)
    """
    return factorize(matrix)(right)


def factorize(matrix) -> Callable[[np.ndarray], np.ndarray]:
    """Factor a symmetric positive definite matrix (n, n) once; the function returned solves for columns (n, K).

    Notes
    -----
    CHOLMOD through cholespy (Nicolet et al. 2021); SuperLU in symmetric mode where cholespy has no wheel.
    """
    matrix = csc_matrix(matrix)
    try:
        import cholespy
    except ImportError:
        return _factorize_superlu(matrix)
    # By coordinates: from CSC arrays cholespy 2.2 corrupts the heap, as glibc's malloc checks show on small matrices.
    entries = matrix.tocoo()
    solver = cholespy.CholeskySolverD(matrix.shape[0], entries.row.astype(np.int32), entries.col.astype(np.int32),
                                      entries.data, cholespy.MatrixType.COO)

    def apply(right: np.ndarray) -> np.ndarray:
        right = np.asarray(right, np.float64)
        out = np.empty_like(right)
        for first in range(0, right.shape[1], COLUMNS):
            block = np.ascontiguousarray(right[:, first:first + COLUMNS])
            answer = np.zeros_like(block)
            solver.solve(block, answer)
            out[:, first:first + COLUMNS] = answer
        return out

    return apply


def _factorize_superlu(matrix: csc_matrix) -> Callable[[np.ndarray], np.ndarray]:
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
    return lambda right: factor.solve(np.asarray(right, np.float64))


def lifted(matrix, amount: float = 1e-12):
    """``matrix`` with its diagonal raised by ``amount`` of its mean: rounding must not make it indefinite."""
    return matrix + diags(np.full(matrix.shape[0], amount * max(matrix.diagonal().mean(), np.finfo(float).tiny)))
