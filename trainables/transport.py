"""Label allocation by optimal transport: fitted on a bounded matrix, applied row by row.

A transport plan between rows and classes has the form plan[i, k] = u_i * p_ik**power * v_k. Given
the column duals log v, a row depends on itself alone, since u_i only normalises it. So a
:class:`Plan` is fitted on as many rows as fit into memory, and labels any number of others.

Legend: N rows, C classes.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.special import expit

LEAST = 1e-12
"""Probabilities and shares below this count as this, so that zeros make no infinities."""
GUARD = 1e-6
"""Added to shares and probabilities where the paper's code adds it."""


@dataclass(frozen=True)
class Solved:
    """How a plan was found."""

    iterations: int
    mass_error: float
    """Share of all mass by which the columns were still off; of 'partial', would still move."""


@dataclass(frozen=True)
class Plan:
    """log plan of row i and class k = power * log p_ik + shift_k, beside one constant logit."""

    power: float
    """What log-probabilities are multiplied by."""
    shift: tuple[float, ...]
    """Column duals, one for each class [C]."""
    sink: float = -math.inf
    """Logit of 'not now'; minus infinity when every row must have a label."""
    solved: Solved | None = field(default=None, compare=False)
    """None for a plan of no rows."""

    def labels(self, log_probs: np.ndarray) -> np.ndarray:
        """Distributions over the classes, float64 [N, C], of log-probabilities [N, C]."""
        return _softmax(self._logits(log_probs))

    def mass(self, log_probs: np.ndarray) -> np.ndarray:
        """Share of each row that goes to classes, in [0, 1], float64 [N]; 1 without a sink."""
        real = _log_sum(self._logits(log_probs), axis=1)
        return np.asarray(expit(real - self.sink))

    def _logits(self, log_probs: np.ndarray) -> np.ndarray:
        return np.asarray(self.power * _clipped(log_probs) + np.array(self.shift))


@dataclass(frozen=True)
class Refinery:
    """log label of row i and class k = log a_ik - dual_k * entropy(a_i), normalised.

    Here a_ik = p_ik * scale_k where log p_ik reaches cut_k, else 0; plus 1e-6; rows sum to 1.
    """

    cut: tuple[float, ...]
    """Log-probabilities below which a class gives a row nothing, one for each class [C]."""
    scale: tuple[float, ...]
    """Factor of what a class keeps [C]."""
    dual: tuple[float, ...]
    """Price of a class for each nat of a row's entropy [C]."""
    solved: Solved | None = field(default=None, compare=False)
    """None for a plan of no rows."""

    def labels(self, log_probs: np.ndarray) -> np.ndarray:
        """Distributions over the classes, float64 [N, C], of log-probabilities [N, C]."""
        logs, entropy = _purged(_clipped(log_probs), np.array(self.cut), np.array(self.scale))
        return _softmax(logs - entropy * np.array(self.dual))


def balanced(
    log_probs: np.ndarray,
    target: Sequence[float] | np.ndarray,
    epsilon: float,
    iterations: int = 100,
) -> Plan:
    """The plan nearest to P**(1/epsilon) whose rows sum to 1 and columns to N * target.

    ``log_probs`` [N, C]; ``target`` [C] sums to 1. Stops early once the columns fit to 1e-12.
    A small epsilon takes far more iterations: at 0.02 columns can be a third off after 100.
    Source: Cuturi, Sinkhorn distances, NeurIPS 2013, arXiv:1306.0895; for labels as in Asano et
    al., Self-labelling, ICLR 2020, arXiv:1911.05371.
    """
    power = 1 / _positive("epsilon", epsilon)
    logs = _fittable(log_probs)
    shares = _shares(target, logs.shape[1])
    if not len(logs):
        return Plan(power, (0.0,) * logs.shape[1])
    duals, solved = _column_duals(
        power * logs,
        rows=np.zeros(len(logs)),
        columns=np.log(len(logs) * shares),
        iterations=iterations,
        tolerance=1e-12,
    )
    return Plan(power, tuple(duals.tolist()), solved=solved)


def partial(
    log_probs: np.ndarray,
    share: float,
    target: Sequence[float] | np.ndarray,
    epsilon: float = 0.1,
    gamma: float = 1.0,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Plan:
    """A plan that labels the share of all mass that is cheapest to label, the rest goes to a sink.

    ``log_probs`` [N, C]; ``target`` [C] sums to 1. Columns are drawn towards N * share * target,
    the more the larger gamma; the sink takes N * (1 - share) exactly.
    Source: Zhang et al., P2OT: Progressive partial optimal transport, ICLR 2024, arXiv:2401.09266,
    algorithm 1. Departs from the paper: any target, not only equal shares; stops when the columns
    would move by less than tolerance of all mass, where the paper looks at the scaling vector; at
    last the sink is solved for alone, so that it is exact even where the iterations ran out.
    """
    power = 1 / _positive("epsilon", epsilon)
    gamma = _positive("gamma", gamma)
    _positive("share", share, most=1.0)
    logs = _fittable(log_probs)
    num, classes = logs.shape
    columns = share * _shares(target, classes)
    if not num:
        return Plan(power, (0.0,) * classes)
    kernel, soften = power * logs, np.full(classes, gamma / (gamma + epsilon))
    if share < 1:
        kernel = np.hstack([kernel, np.zeros((num, 1))])
        columns, soften = np.append(columns, 1 - share), np.append(soften, 1.0)
    duals, solved = _column_duals(
        kernel,
        rows=np.zeros(num),
        columns=np.log(num * columns),
        soften=soften,
        iterations=iterations,
        tolerance=tolerance,
    )
    duals = duals[:classes]
    sink = _sink(_log_sum(power * logs + duals, axis=1), share) if share < 1 else -math.inf
    return Plan(power, tuple(duals.tolist()), sink, solved)


def allocation(
    log_probs: np.ndarray,
    share: float,
    bounds: Sequence[float] | np.ndarray,
    reg: float = 100.0,
    tolerance: float = 0.01,
    iterations: int = 5000,
) -> Plan:
    """A plan that labels about share of the rows, no class more than about its bound of them.

    ``log_probs`` [N, C]; ``bounds`` [C] are shares of N. A slack row lets classes stay below their
    bounds, the sink takes the rows that wait; rows' masses act as weights. Columns may err by
    tolerance of all mass in sum.
    Source: Tai et al., Sinkhorn label allocation, ICML 2021, arXiv:2102.08622, algorithm 1.
    """
    power = _positive("reg", reg)
    _positive("share", share, most=1.0)
    logs = _fittable(log_probs)
    num, classes = logs.shape
    upper = np.asarray(bounds, np.float64)
    if upper.shape != (classes,) or not (upper >= 0).all():
        raise ValueError(f"bounds must be {classes} shares, none negative: got {upper.tolist()}")
    if upper.sum() < share - 1e-6:
        raise ValueError(
            f"bounds sum to {upper.sum():g}, so a share of {share:g} cannot be labelled: "
            "raise the bounds or lower the share"
        )
    if not num:
        return Plan(power, (0.0,) * classes)
    unbounded = 1 - upper.sum()
    kernel = np.zeros((num + 1, classes + 1))
    kernel[:-1, :-1] = power * logs
    slack_row = 1 + classes + num * (1 - share - min(unbounded, 0))
    slack_column = 1 + num * (1 - share + max(unbounded, 0))
    found, solved = _column_duals(
        kernel,
        rows=np.log(np.append(np.ones(num), slack_row)),
        columns=np.log(np.append(1 + num * upper, slack_column)),
        centred=classes,
        iterations=iterations,
        tolerance=tolerance,
    )
    duals = found.tolist()
    return Plan(power, tuple(duals[:-1]), duals[-1], solved)


def refine(
    log_probs: np.ndarray,
    target: Sequence[float] | np.ndarray,
    alpha: float = 2.0,
    iterations: int = 10,
) -> Refinery:
    """Labels near to P with columns N * target, uncertain rows moving first.

    ``log_probs`` [N, C]; ``target`` [C] sums to 1. Each class first keeps its alpha * N * target_k
    most probable rows.
    Source: Kim et al., Distribution aligning refinery, NeurIPS 2020, arXiv:2007.08844, algorithm 1.
    Departs from the paper: rows that tie at the cut are all kept, and at least one is, so that the
    order of rows means nothing; Newton's method runs in logs for all classes at once and until it
    converged; the entropy has a floor of 1e-6 in place of a guard inside its logarithm.
    """
    _positive("alpha", alpha)
    logs = _fittable(log_probs)
    num, classes = logs.shape
    counts = num * _shares(target, classes)
    if not num:
        return Refinery((-math.inf,) * classes, (1.0,) * classes, (0.0,) * classes)
    keep = np.floor(alpha * counts + 1e-9).clip(1, num).astype(np.int64)
    cut = np.sort(logs, axis=0)[num - keep, np.arange(classes)]
    kept = np.where(logs >= cut, np.exp(logs), 0.0).sum(axis=0)
    scale = (counts + GUARD) / (kept + GUARD)
    purged, entropy = _purged(logs, cut, scale)
    dual = np.zeros(classes)
    for _ in range(iterations):
        rows = purged - _log_sum(purged - entropy * dual, axis=1)[:, None]
        dual = _priced(rows, entropy, np.log(counts), dual)
    got = _softmax(purged - entropy * dual).sum(axis=0)
    solved = Solved(iterations, float(np.abs(got - counts).sum() / num))
    return Refinery(tuple(cut.tolist()), tuple(scale.tolist()), tuple(dual.tolist()), solved)


def wilson_upper(class_rows: Sequence[int] | np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Upper ends of Wilson's two-sided intervals of the class shares, float64 [C]; 1 of no rows.

    ``class_rows`` [C] counts labelled rows. Source: Wilson, Probable inference, JASA 1927; as
    bounds in Tai et al., Sinkhorn label allocation, ICML 2021, arXiv:2102.08622.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, say 0.95: got {confidence:g}")
    counts = np.asarray(class_rows, np.float64)
    total = counts.sum()
    if total == 0:
        return np.ones_like(counts)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = counts / total
    spread = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return np.asarray((share + z**2 / (2 * total) + spread) / (1 + z**2 / total))


def _column_duals(
    kernel: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    iterations: int,
    tolerance: float,
    soften: np.ndarray | float = 1.0,
    centred: int = 0,
) -> tuple[np.ndarray, Solved]:
    """Log column scalings float64 [C] of exp(kernel [N, C]), to log marginals rows and columns.

    A column whose ``soften`` is below 1 is drawn to its marginal only so much. The first
    ``centred`` scalings get the mean 0. Rows are scaled last; ends when the columns would then
    move by less than tolerance of all mass.
    """
    weights = np.exp(columns) / np.exp(columns).sum()
    nearer = soften * (columns - _log_sum(kernel, axis=0))
    duals, made, error = nearer, 0, math.inf
    for _ in range(iterations):
        made += 1
        duals = nearer - nearer[:centred].mean() if centred else nearer
        scaled = kernel + (rows - _log_sum(kernel + duals, axis=1))[:, None]
        nearer = soften * (columns - _log_sum(scaled, axis=0))
        moved = np.abs(np.expm1((duals - nearer).clip(max=700)))  # more would overflow
        error = float(weights @ moved)
        if error < tolerance:
            break
    return np.asarray(duals), Solved(made, error)


def _sink(real: np.ndarray, share: float) -> float:
    """The logit beside which rows of log masses real [N] keep share of their mass on average."""
    from scipy.optimize import brentq  # here: half a second that few runs need

    odds = math.log1p(-share) - math.log(share)
    low, high = float(real.min()) + odds - 1, float(real.max()) + odds + 1
    return float(brentq(lambda sink: expit(real - sink).mean() - share, low, high, xtol=1e-12))


def _priced(
    rows: np.ndarray, entropy: np.ndarray, columns: np.ndarray, dual: np.ndarray
) -> np.ndarray:
    """The dual [C] at which log sum_i exp(rows[i, k] - dual_k * entropy_i) = columns[k].

    The left side is convex and falls in dual_k, so from the second step on Newton's method comes
    from the left and cannot overshoot. ``rows`` [N, C], ``entropy`` [N, 1], ``columns`` [C].
    """
    for _ in range(30):
        logits = rows - entropy * dual
        sums = _log_sum(logits, axis=0)
        if np.abs(sums - columns).max() < 1e-12:
            break
        slope = (np.exp(logits - sums) * entropy).sum(axis=0)
        dual = dual + (sums - columns) / slope
    return dual


def _purged(logs: np.ndarray, cut: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DARP's starting point: log a [N, C] (see :class:`Refinery`) and its entropy [N, 1]."""
    raw = np.log(np.where(logs < cut, 0.0, np.exp(logs) * scale) + GUARD)  # NaN stays
    purged = raw - _log_sum(raw, axis=1)[:, None]
    entropy = -(np.exp(purged) * purged).sum(axis=1, keepdims=True)
    return purged, np.maximum(entropy, GUARD)


def _log_sum(logits: np.ndarray, axis: Literal[0, 1]) -> np.ndarray:
    top = logits.max(axis=axis, keepdims=True)
    return np.asarray(np.log(np.exp(logits - top).sum(axis=axis)) + top.squeeze(axis))


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _clipped(log_probs: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(log_probs, math.log(LEAST), dtype=np.float64))


def _fittable(log_probs: np.ndarray) -> np.ndarray:
    if not (log_probs < np.inf).all():
        raise ValueError("a plan cannot be fitted on NaN: pass only Beliefs.usable() rows")
    return _clipped(log_probs)


def _shares(target: Sequence[float] | np.ndarray, classes: int) -> np.ndarray:
    shares = np.asarray(target, np.float64)
    if shares.shape != (classes,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"target must be {classes} shares that sum to 1: divide {shares.tolist()} by its sum"
        )
    shares = np.maximum(shares, LEAST)
    return np.asarray(shares / shares.sum())


def _positive(name: str, value: float, most: float = sys.float_info.max) -> float:
    if not 0 < value <= most:
        raise ValueError(f"{name} must be above 0 and at most {most:g}: change {value:g}")
    return value
