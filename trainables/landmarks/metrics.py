"""How far found points lie from the true ones.

Legend: N rows, K points; the last 2 are (x, y) in pixels, NaN where unknown.
"""

from typing import Literal

import numpy as np

Normaliser = tuple[int, int] | Literal["box"] | float
"""That of `trainables.tasks.kinds.Points`."""
NOT_FOUND = 1.0
"""Distance of a known point that was not found. House rule."""


def distances(found: np.ndarray, true: np.ndarray, normaliser: Normaliser) -> np.ndarray:
    """Distances of points [N, K, 2] from the true ones over the normaliser, float64 [N, K].

    They are NaN where the true point is unknown, and ``NOT_FOUND`` where only it is known. A row
    whose normaliser is unknown or 0 takes the mean of the other rows'; where no row has one it is
    the diagonal of the box, and where there is no box either, a pixel.
    """
    away = np.linalg.norm(found.astype(np.float64) - true, axis=2)
    by = _normalisers(true.astype(np.float64), normaliser)
    known = np.isfinite(true).all(axis=2)
    relative = np.where(np.isfinite(away), away / by[:, None], NOT_FOUND)
    return np.where(known, relative, np.nan)


def measure(away: np.ndarray, limit: float = 0.1) -> dict[str, float]:
    """Numbers that sum up the distances [N, K] that `distances` gives.

    ``rows`` with a known point and known ``points``; over the points their mean distance (``nme``),
    the share within ``limit`` (``pck``) and the mean of that share over all limits from 0 to
    ``limit`` (``auc``, which is also the ``score``); the share of rows whose mean distance is above
    ``limit`` (``failure_rate``).

    Raises:
        ValueError: No point is known.
    """
    known = ~np.isnan(away)
    if not known.any():
        raise ValueError("no point is known in any row, so there is nothing to measure")
    points = away[known]
    rows = np.nanmean(away[known.any(axis=1)], axis=1)
    area = float(np.clip(1 - points / limit, 0, None).mean())
    return {
        "rows": float(len(rows)),
        "points": float(len(points)),
        "nme": float(points.mean()),
        "auc": area,
        "pck": float((points <= limit).mean()),
        "failure_rate": float((rows > limit).mean()),
        "score": area,
    }


def by_point(away: np.ndarray) -> list[float | None]:
    """The mean distance of each point over rows [N, K]; None for one that is never known."""
    known = ~np.isnan(away)
    return [float(away[has, k].mean()) if has.any() else None for k, has in enumerate(known.T)]


def _normalisers(true: np.ndarray, normaliser: Normaliser) -> np.ndarray:
    """What the rows' distances are divided by, in pixels [N]."""
    if isinstance(normaliser, float | int):
        return np.full(len(true), float(normaliser))
    if normaliser == "box":
        held = np.isfinite(true)
        low = np.where(held, true, np.inf).min(axis=1)
        high = np.where(held, true, -np.inf).max(axis=1)
        own = np.linalg.norm(np.where(low <= high, high - low, 0.0), axis=1)
    else:
        one, other = normaliser
        own = np.linalg.norm(true[:, one] - true[:, other], axis=1)
    usable = np.isfinite(own) & (own > 0)
    if usable.any():
        return np.asarray(np.where(usable, own, own[usable].mean()))
    return np.ones(len(true)) if normaliser == "box" else _normalisers(true, "box")
