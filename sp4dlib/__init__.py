"""sp4dlib: the support library of the SP4D book.

Rooms, in the order of the circle: :mod:`~sp4dlib.rigs`, :mod:`~sp4dlib.coding`, :mod:`~sp4dlib.clips`,
:mod:`~sp4dlib.model`, :mod:`~sp4dlib.diffusion`, :mod:`~sp4dlib.lifting`, :mod:`~sp4dlib.evaluation`,
:mod:`~sp4dlib.show`.
"""

__version__ = "0.1.0"
