"""Rows into labelled, validation, test and pool: a seeded draw by id, and duplicates across."""

from collections import defaultdict

import numpy as np

from orchestrator.data.checking import Row
from orchestrator.data.dataset import PrepareSpec
from orchestrator.errors import DataError
from trainables.randomness import id_hash

SPLITS = ("labelled", "validation", "test", "pool")
Splits = dict[str, list[Row]]


def split(rows: list[Row], strata: tuple[str, ...], spec: PrepareSpec) -> Splits:
    """Rows by split: the source's own parts first, then a seeded stratified draw by id.

    ``strata`` are the classes; rows that have points are one stratum whatever its name. Each split
    is in the order of ids, the pool in that of clips before.

    Raises:
        DataError: A stratum has too few labelled rows; all are named.
    """
    splits: Splits = {name: [] for name in SPLITS}
    by_stratum: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.example.part in ("validation", "test"):
            splits[row.example.part].append(row)
        elif row.label is None or row.example.part == "unlabelled":
            splits["pool"].append(row)
        else:
            by_stratum[row.label if isinstance(row.label, int) else 0].append(row)
    wanted = {
        name: 0 if splits[name] else int(getattr(spec, name)) for name in ("validation", "test")
    }
    each = spec.labelled_per_class or spec.labelled or 0
    counts = np.array([len(by_stratum[k]) for k in range(len(strata))])
    shares = {name: _quota(counts, total) for name, total in wanted.items()}
    short = []
    for k, name in enumerate(strata):
        ordered = _shuffled(by_stratum[k], spec.seed)
        needed = each + sum(int(quota[k]) for quota in shares.values())
        if len(ordered) < needed:
            short.append(f"{name} has {len(ordered)}, needs {needed}")
        cuts = np.cumsum([each, *(int(q[k]) for q in shares.values())])
        parts = (*(part.tolist() for part in np.split(np.arange(len(ordered)), cuts)),)
        for into, places in zip(("labelled", *shares, "pool"), parts, strict=True):
            splits[into] += [ordered[i] for i in places]
    if short:
        raise DataError("too few labelled rows: " + "; ".join(short))
    inside = {
        name: sorted(part, key=lambda r: r.example.example_id) for name, part in splits.items()
    }
    inside["pool"].sort(key=lambda r: (r.example.group or "", r.example.order))
    return inside


def _quota(counts: np.ndarray, total: int) -> np.ndarray:
    """``total`` rows shared out in the proportion of ``counts`` (largest remainders), int64 [C]."""
    if not total or not counts.sum():
        return np.zeros(len(counts), np.int64)
    exact = total * counts / counts.sum()
    quota = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: total - int(quota.sum())]] += 1
    return np.asarray(quota)


def _shuffled(rows: list[Row], seed: int) -> list[Row]:
    """Rows in an order that depends on their ids and the seed, not on their place."""
    ids = [row.example.example_id for row in rows]
    hashes = id_hash(seed, ids).tolist()
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: (hashes[i], ids[i]))]


def duplicates(splits: Splits) -> list[str]:
    """Exact duplicates across splits, one line each."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, rows in splits.items():
        for row in rows:
            places[row.pixels].append((name, row.example.example_id))
    return sorted(
        " = ".join(f"{name}:{example}" for name, example in sorted(found))
        for found in places.values()
        if len({name for name, _ in found}) > 1
    )


def without_duplicates(splits: Splits) -> tuple[Splits, list[tuple[str, str, str]]]:
    """Splits where no image stands in two, and the refused rows: id, origin, reason.

    Test wins over validation, labelled, pool.
    """
    kept: Splits = {}
    refused = []
    owner: dict[str, str] = {}
    for name in ("test", "validation", "labelled", "pool"):
        kept[name] = []
        for row in splits[name]:
            if owner.setdefault(row.pixels, name) == name:
                kept[name].append(row)
                continue
            reason = f"exact duplicate of a {owner[row.pixels]} row"
            refused.append((row.example.example_id, row.example.origin, reason))
    return {name: kept[name] for name in splits}, refused
