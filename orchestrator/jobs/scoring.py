"""Score a teacher on the rows with ground truth."""

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss

from orchestrator.data.dataset import Dataset, Split
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.job import ScoreJob
from orchestrator.jobs.predicting import predict
from orchestrator.jobs.training import load_teacher
from orchestrator.recipe import LabellingSpec
from orchestrator.store.store import Outcome, Store
from trainables.beliefs import Beliefs

ROWS_PER_PASS = 512


def run_scoring(job: ScoreJob, device: str = "cpu") -> Outcome:
    """Accuracy, balanced accuracy, log loss and calibration error of both splits."""
    store, data = Store(job.store), Dataset(job.data)
    model = load_teacher(store, job, job.train).to(device).to(memory_format=torch.channels_last)
    metrics = {
        name: _scores(job, data, split, model, torch.device(device))
        for name, split in (("validation", data.manifest.validation), ("test", data.manifest.test))
    }
    return Outcome((), {n: int(m["rows"]) for n, m in metrics.items()}, metrics)


def _scores(
    job: ScoreJob, data: Dataset, split: Split, model: torch.nn.Module, device: torch.device
) -> dict[str, float]:
    labels, blocks = [], []
    for entry in split.files:
        decoded = decoded_fragment(data, entry, job.form)
        if decoded.refused:
            name, reason = next(iter(decoded.refused.items()))
            raise DataError(f"{entry.name}, row {name!r}: {reason}; prepare the data again")
        labels.append(data.read(entry, ["label"])["label"].to_numpy())
        blocks.append(
            predict(model, decoded, LabellingSpec(), ROWS_PER_PASS, device, job.num_classes)
        )
    return measure(np.concatenate(labels), np.concatenate([b.log_probs for b in blocks]))


def measure(labels: np.ndarray, log_probs: np.ndarray) -> dict[str, float]:
    """Scores of log-probabilities [N, C] against labels [N]; shares in [0, 1]."""
    beliefs = Beliefs.of_log_probs([""] * len(labels), log_probs)
    right = beliefs.labels == labels
    probs = np.exp(log_probs.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    return {
        "rows": float(len(labels)),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(labels, beliefs.labels)),
        "log_loss": float(log_loss(labels, probs, labels=np.arange(probs.shape[1]))),
        "calibration_error": calibration_error(beliefs.confidence, right),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over equal-width bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.bincount(place, minlength=bins)
    gap = np.bincount(place, confidence, bins) - np.bincount(place, right.astype(float), bins)
    return float(np.abs(gap)[weight > 0].sum() / len(confidence))
