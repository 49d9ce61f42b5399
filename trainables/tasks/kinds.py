"""What a data set's labels are: the kind of its task, and the numbers that define it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.spec import Spec


class Classes(Spec):
    """Each row has one class."""

    kind: Literal["classification"] = "classification"
    num_classes: Annotated[int, Field(ge=2)]
    """Classes."""

    @property
    def num_names(self) -> int:
        """Names that labels count by: the classes."""
        return self.num_classes


class Points(Spec):
    """Each row has the same named points; some of them may be unknown."""

    kind: Literal["landmarks"] = "landmarks"
    num_points: Annotated[int, Field(ge=1)]
    """Points, K."""
    mirrored: tuple[int, ...]
    """Which point each one becomes in the mirror image, [K]: itself, or its partner."""
    normaliser: tuple[int, int] | Literal["box"] | Annotated[float, Field(gt=0)] = "box"
    """What distances are divided by: the distance of two points, the diagonal of the box around a
    row's known points, or a number of pixels of the stored images."""

    @property
    def num_names(self) -> int:
        """Names that labels count by: the points."""
        return self.num_points

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults, count = [], self.num_points
        if len(self.mirrored) != count or any(not 0 <= k < count for k in self.mirrored):
            faults.append(f"mirrored must name one of {count} points for each of them")
        elif any(self.mirrored[k] != i for i, k in enumerate(self.mirrored)):
            faults.append("mirrored must lead back to each point when it is applied twice")
        if isinstance(self.normaliser, tuple):
            one, other = self.normaliser
            if one == other or not (0 <= one < count and 0 <= other < count):
                faults.append(f"normaliser must be two different points of {count}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


TaskSpec = Annotated[Classes | Points, Field(discriminator="kind")]
