"""Auxiliary terms: what a step learns from its pool rows beside their labels.

Each is a mean over the pool rows of the global batch. Terms that hold rows against each other read
those of all workers; the gradient of each worker goes through its own rows alone.

Legend: b pool rows of this worker, B of the global batch, M kept rows, E features of the embedding,
C classes.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.beliefs import Beliefs
from trainables.heads import HeadName, Outputs
from trainables.kept_rows import EmbeddingSpec, Kept, LabelledRows, LatestRows
from trainables.nearby import Refinement, class_means
from trainables.neighbours import Bank, prototype_log_probs, unfold
from trainables.schedules import Bounds, Scalar
from trainables.shrinking import shrunk_classes
from trainables.spec import Spec
from trainables.worker import Worker

Weight = Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))]
Temper = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
FurtherView = Literal["second", "turned"]
"""Views of the pool rows beside the weak and the strong one: another strong, or a turned weak."""
TERMS = ("similarity", "graph", "contrast", "alignment", "shrunk", "turns")


@dataclass(frozen=True)
class Known:
    """What was known of a step's pool rows before the student moved."""

    seen: Beliefs
    """Beliefs about the weak views of this worker's rows [b], as calibrated."""
    refined: Beliefs
    """The same behind the refinement."""
    embedding: np.ndarray
    """Of the weak views, float32 [b, E]; [b, 0] without an embedding."""
    bank: Bank | None
    """The kept rows that they were held against."""
    keys: Tensor | None
    """Embeddings [b, E] of second strong views by the labelling network, if a term reads them."""
    last_confidences: np.ndarray
    """Confidences of the last rows that the running statistics hold, float32."""
    num_rows: int
    """B."""


@dataclass(frozen=True)
class Trained:
    """What the student says about the pool rows that it trains on."""

    strong: Outputs
    """About the strong views [b]."""
    second: Outputs
    """About second strong views [b]; of no rows if no term reads them."""
    turned: Outputs
    """About turned views [b]; of no rows if no term reads them."""
    quarters: Tensor
    """Quarter turns of those views, int64 [b]."""


class Similarity(Spec):
    """A strong view is as alike to each labelled row as the weak view is, given their classes.

    Cross-entropy over the labelled rows. Source: Zheng et al., SimMatch, CVPR 2022,
    arXiv:2203.06915, "unfold" and the instance loss.
    """

    head: ClassVar[HeadName] = "embedding"
    keeps: ClassVar[Kept] = LabelledRows
    view: ClassVar[FurtherView | None] = None
    weight: Weight = 1.0
    """Weight of the term."""
    temperature: Temper = 0.1
    """Likeness is softmax(cosine / temperature)."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        del worker
        bank = _bank(known)
        if not len(bank.features):
            return trained.strong.embedding.sum() * 0
        target = _like(unfold(bank, known.embedding, _probs(known.seen), self.temperature), trained)
        alike = trained.strong.embedding @ _like(bank.features, trained).T / self.temperature
        return -(target * torch.log_softmax(alike, dim=1)).sum() / known.num_rows


class Graph(Spec):
    """Two strong views of rows that are likely of one class are alike in the embedding.

    Source: Li et al., CoMatch, ICCV 2021, arXiv:2011.11183: the graph of labels
    p_i . p_j, 1 on the diagonal, without edges below a cut, is the target of that of embeddings.
    """

    head: ClassVar[HeadName] = "embedding"
    keeps: ClassVar[Kept] = None
    view: ClassVar[FurtherView | None] = "second"
    weight: Weight = 1.0
    """Weight of the term."""
    temperature: Temper = 0.2
    """Likeness is softmax(cosine / temperature)."""
    cut: Share = 0.8
    """Rows that are less likely than this of one class have no edge."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        num = known.num_rows
        probs = torch.from_numpy(worker.gather(_probs(known.refined), num))
        first = worker.together(trained.strong.embedding, num)
        second = worker.together(trained.second.embedding, num)
        target = label_graph(probs, self.cut).to(first)
        alike = torch.log_softmax(first @ second.T / self.temperature, dim=1)
        return _shared(-(target * alike).sum() / num, worker)


class Contrast(Spec):
    """A strong view is nearer to another strong view of its row than to rows of other labels.

    Source: Chen et al., AdaContrast, CVPR 2022, arXiv:2204.10377: InfoNCE without the
    negatives of the row's own pseudo-label.
    Departs from the paper: negatives are the kept weak views, so that one memory serves the
    refinement as well.
    """

    head: ClassVar[HeadName] = "embedding"
    keeps: ClassVar[Kept] = LatestRows
    view: ClassVar[FurtherView | None] = None
    weight: Weight = 1.0
    """Weight of the term."""
    temperature: Temper = 0.07
    """Likeness is softmax(cosine / temperature)."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        del worker
        bank, keys = _bank(known), known.keys
        assert keys is not None  # noqa: S101 - made because this term reads them
        query = trained.strong.embedding
        positive = (query * keys).sum(dim=1, keepdim=True)
        negative = query @ _like(bank.features, trained).T
        same = bank.probs.argmax(axis=1) == known.refined.labels[:, None]
        negative = negative.masked_fill(torch.from_numpy(same).to(query.device), -torch.inf)
        alike = torch.cat([positive, negative], dim=1) / self.temperature
        return -torch.log_softmax(alike, dim=1)[:, 0].sum() / known.num_rows


class Alignment(Spec):
    """A strong view is as alike to the class means of labelled rows as the weak view is.

    Source: Oh et al., DASO, CVPR 2022, arXiv:2106.05682, semantic alignment loss.
    """

    head: ClassVar[HeadName] = "embedding"
    keeps: ClassVar[Kept] = LabelledRows
    view: ClassVar[FurtherView | None] = None
    weight: Weight = 1.0
    """Weight of the term."""
    temperature: Temper = 0.05
    """Likeness is softmax(cosine / temperature)."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        del worker
        means = class_means(_bank(known))
        means = means[(means != 0).any(axis=1)]
        if not len(means):
            return trained.strong.embedding.sum() * 0
        target = np.exp(prototype_log_probs(known.embedding, means, self.temperature))
        alike = trained.strong.embedding @ _like(means, trained).T / self.temperature
        loss = -(_like(target, trained) * torch.log_softmax(alike, dim=1)).sum()
        return loss / known.num_rows


class Shrunk(Spec):
    """Unsure rows teach a second classifier among those classes in which they are sure.

    The loss counts by the row's confidence times the share of sure rows. Source: Yang et al.,
    ShrinkMatch, ICCV 2023, arXiv:2308.06777, and its released code.
    Departs from the released code: the share is that of the last rows, as many as the running
    statistics hold, instead of a mean that is forgotten after each epoch.
    """

    head: ClassVar[HeadName] = "second_classifier"
    keeps: ClassVar[Kept] = None
    view: ClassVar[FurtherView | None] = None
    weight: Weight = 1.0
    """Weight of the term."""
    threshold: Share = 0.95
    """A row is sure of its class from this probability on, among all classes or those left."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        del worker
        logits = trained.strong.heads["second_classifier"]
        usable = known.seen.usable()
        keep, sure = shrunk_classes(_probs(known.seen), self.threshold)
        unsure = sure & usable & (known.seen.confidence < self.threshold)
        weight = np.where(unsure, known.seen.confidence, 0) * self._sure_share(
            known.last_confidences
        )
        left = logits.masked_fill(~torch.from_numpy(keep).to(logits.device), -torch.inf)
        labels = torch.from_numpy(known.seen.labels).to(logits.device)
        loss = torch.logsumexp(left, dim=1) - logits.gather(1, labels[:, None])[:, 0]
        return (_like(weight, trained) * loss).sum() / known.num_rows

    def _sure_share(self, confidences: np.ndarray) -> float:
        return float((confidences >= np.float32(self.threshold)).mean()) if len(confidences) else 0


class Turns(Spec):
    """By how many quarters a view was turned: a task whose labels are right by construction.

    House method after what the abstract of RDCR says: rotation as a clean auxiliary task, and
    features apart from noisy labels. Views are weak ones; each row is turned at random.
    """

    head: ClassVar[HeadName] = "turns"
    keeps: ClassVar[Kept] = None
    view: ClassVar[FurtherView | None] = "turned"
    weight: Weight = 1.0
    """Weight of the term."""
    apart_from: Share = 1.0
    """Share of the round after which pseudo-labels of any kind move the classifier alone, and not
    the features; 1 never."""

    def value(self, known: Known, trained: Trained, worker: Worker) -> Tensor:
        """This worker's part of the term; a scalar."""
        del worker
        told = torch.log_softmax(trained.turned.heads["turns"], dim=1)
        return -told.gather(1, trained.quarters[:, None]).sum() / known.num_rows


AuxiliaryTerm = Similarity | Graph | Contrast | Alignment | Shrunk | Turns


class RepresentationSpec(Spec):
    """What a step does with its pool rows beside labelling them for a strong view.

    Heads train with the student and are never delivered or scored; they begin anew each round.
    """

    embedding: EmbeddingSpec | None = None
    """Space in which pool rows are held against rows that are kept; none by default."""
    refine: Refinement | None = None
    """How beliefs follow from kept rows near by, between calibrators and selector; none by
    default."""
    similarity: Similarity | None = None
    """A strong view is as alike to labelled rows as the weak view is; off by default."""
    graph: Graph | None = None
    """Strong views of rows of one class are alike; off by default."""
    contrast: Contrast | None = None
    """Strong views of one row are alike, and unlike rows of other labels; off by default."""
    alignment: Alignment | None = None
    """A strong view is as alike to class means as the weak view is; off by default."""
    shrunk: Shrunk | None = None
    """Unsure rows teach a second classifier among fewer classes; off by default."""
    turns: Turns | None = None
    """A head tells how a view was turned; off by default."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        near = {name: term for name, term in self.terms.items() if term.head == "embedding"}
        readers = [(name, term.keeps) for name, term in near.items()]
        readers += [(f"refine {self.refine.kind}", self.refine.keeps)] if self.refine else []
        faults = []
        for name, keeps in readers:
            if self.embedding is None:
                faults.append(f"{name} needs an embedding")
            elif keeps is not None and not isinstance(self.embedding.keep, keeps):
                kind = keeps.model_fields["kind"].default
                faults.append(f"{name} needs embedding.keep of kind {kind}")
        if self.embedding is not None and not readers:
            faults.append("nothing reads the embedding: remove it")
        elif self.embedding is not None and self.embedding.width and not near:
            faults.append(
                "nothing trains the embedding's head: set its width to 0, or add a term that "
                "reads it"
            )
        if not self.heads:
            faults.append("it holds nothing: remove it")
        if faults:
            raise ValueError(f"representation: {'; '.join(faults)}")
        return self

    @property
    def terms(self) -> dict[str, AuxiliaryTerm]:
        """The terms that are on, by name."""
        found = {name: getattr(self, name) for name in TERMS}
        return {name: term for name, term in found.items() if term is not None}

    @property
    def heads(self) -> set[HeadName]:
        """Heads that train beside the classifier."""
        found = {term.head for term in self.terms.values()}
        return found | ({"embedding"} if self.embedding is not None else set())

    @property
    def further_views(self) -> tuple[FurtherView, ...]:
        """Views of the pool rows that are trained on beside the strong one."""
        return tuple(t.view for t in self.terms.values() if t.view is not None)

    @property
    def reads_keys(self) -> bool:
        """Whether a term reads what the labelling network says about a second strong view."""
        return self.contrast is not None

    @property
    def reads_labelled(self) -> bool:
        """Whether it keeps labelled rows."""
        return self.embedding is not None and self.embedding.keeps_labelled


def label_graph(probs: Tensor, cut: float) -> Tensor:
    """How likely two rows [B, C] are of one class, [B, B]; rows sum to 1.

    The diagonal is 1 before rows are normalised; edges below ``cut`` are 0. Source: Li et al.,
    CoMatch, ICCV 2021, arXiv:2011.11183, the pseudo-label graph.
    """
    edges = torch.nan_to_num(probs @ probs.T)
    edges.fill_diagonal_(1.0)
    edges = edges * (edges >= cut)
    return edges / edges.sum(dim=1, keepdim=True)


def _bank(known: Known) -> Bank:
    assert known.bank is not None  # noqa: S101 - refused without an embedding
    return known.bank


def _probs(beliefs: Beliefs) -> np.ndarray:
    """Probabilities float32 [b, C]; 0 in rows whose predictions are not numbers."""
    return np.where(beliefs.usable()[:, None], np.exp(beliefs.log_probs), 0).astype(np.float32)


def _like(values: np.ndarray, trained: Trained) -> Tensor:
    return torch.from_numpy(values).to(trained.strong.log_probs)


def _shared(value: Tensor, worker: Worker) -> Tensor:
    """A value that all workers know, so that their sum is the value and gradients are whole."""
    return value - value.detach() * (1 - 1 / worker.world)
