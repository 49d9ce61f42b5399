"""The base of every setting: frozen, closed, validated, and documented field by field."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen settings object that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def plain(self) -> dict[str, Any]:
        """The settings as plain JSON values, defaults included."""
        return self.model_dump(mode="json")
