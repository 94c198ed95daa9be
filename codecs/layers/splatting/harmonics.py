"""Real spherical harmonics up to degree 3 in the order and with the signs of 3DGS, for arrays of NumPy and tensors.

A colour is max(0, 0.5 + sum of basis times coefficients), where the basis is taken at the unit vector from the camera
to the Gaussian. Coefficients of higher degrees, which some files have, are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_DEGREE", "basis", "basis_array", "colours", "colours_array", "used_degree"]

MAX_DEGREE = 3

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def used_degree(n_coefficients: int, degree: int | None = None) -> int:
    """The degree that is drawn of so many coefficients a channel: at most `degree`, at most 3. UsageError if none.

    n_coefficients: 1, 4, 9, 16 or more.
    """
    if n_coefficients < 1:
        raise UsageError("no spherical harmonics; expected 1, 4, 9 or 16 coefficients a channel")
    if degree is not None and degree < 0:
        raise UsageError(f"spherical harmonics of degree {degree}; expected 0, 1, 2 or 3")
    largest = max(d for d in range(MAX_DEGREE + 1) if (d + 1) ** 2 <= n_coefficients)
    return largest if degree is None else min(degree, largest)


def _terms(x: Any, y: Any, z: Any, degree: int) -> list[Any]:
    terms = [C0 + 0 * x]
    if degree > 0:
        terms += [-C1 * y, C1 * z, -C1 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        terms += [C2[0] * (x * y), -C2[0] * (y * z), C2[1] * (2 * zz - xx - yy), -C2[0] * (x * z)]
        terms += [C2[2] * (xx - yy)]
        if degree > 2:
            terms += [-C3[0] * y * (3 * xx - yy), C3[1] * (x * y) * z, -C3[2] * y * (4 * zz - xx - yy)]
            terms += [C3[3] * z * (2 * zz - 3 * xx - 3 * yy), -C3[2] * x * (4 * zz - xx - yy)]
            terms += [C3[4] * z * (xx - yy), -C3[0] * x * (xx - 3 * yy)]
    return terms


def basis_array(directions: NDArray[Any], degree: int) -> NDArray[Any]:
    """The harmonics up to a degree at unit vectors (N, 3): (N, (degree + 1)^2)."""
    x, y, z = directions.T
    return np.stack(_terms(x, y, z, degree), 1)


def colours_array(harmonics: NDArray[Any], directions: NDArray[Any], degree: int | None = None) -> NDArray[Any]:
    """The colours of Gaussians seen along unit vectors (N, 3), not below 0: (N, 3). harmonics: (N, K, 3)."""
    terms = basis_array(directions, used_degree(harmonics.shape[1], degree))
    return np.maximum(np.einsum("nk,nkc->nc", terms, harmonics[:, : terms.shape[1]]) + 0.5, 0)


def basis(directions: Tensor, degree: int) -> Tensor:
    """The harmonics up to a degree at unit vectors (N, 3): (N, (degree + 1)^2)."""
    import torch

    x, y, z = directions.unbind(-1)
    terms: Sequence[Tensor] = _terms(x, y, z, degree)
    return torch.stack(list(terms), -1)


def colours(harmonics: Tensor, directions: Tensor, degree: int | None = None) -> Tensor:
    """The colours of Gaussians seen along unit vectors (N, 3), not below 0: (N, 3). harmonics: (N, K, 3)."""
    terms = basis(directions, used_degree(harmonics.shape[1], degree))
    return ((terms[:, :, None] * harmonics[:, : terms.shape[1]]).sum(1) + 0.5).clamp_min(0)
