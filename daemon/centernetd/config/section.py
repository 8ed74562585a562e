"""The base class of all sections of the configuration."""

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A frozen mapping of the file; unknown keys are rejected unless they begin with ``x-``."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_notes(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if not str(key).startswith("x-")}


def section_in(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - a field's annotation
    """Return the section type of a key, whether or not it may be null; None if it has none."""
    first, *others = [kind for kind in get_args(annotation) or [annotation] if kind is not NoneType]
    is_section = not others and isinstance(first, type) and issubclass(first, Section)
    return first if is_section else None
