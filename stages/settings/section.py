"""What the models of all settings share: strict numbers, names, and keys that are known."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAME = "^[a-z][a-z0-9_]*$"
"""Of datasets, tasks and methods: what names folders and columns, and needs no quotes in a shell.

Patterns are pydantic's, where `$` is the end of the text; before a final newline it matches nothing.
"""
EXPERIMENT_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Section(BaseModel):
    """Settings by key; unknown keys, and values of another type, are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _note_keys(cls, values: Any, info: ValidationInfo) -> Any:
        # An error does not say what else a section may hold.
        if info.context is not None:
            info.context[id(values)] = cls.model_fields
        return values


def _keep_integer(value: Any, check: Any) -> Any:
    # 2 shall not become 2.0: it would redo the jobs that have it among their params.
    check(value)
    return value


def _refuse_repetition(values: list) -> list:
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("repetition", "names {value} twice; keep one", {"value": repr(value)})
    return values


def _hide_other_numbers(value: Any) -> Any:
    # True and 1.0 equal the choice 1, but their texts are no choices.
    return value if type(value) is int else str(value)


UNIQUE = AfterValidator(_refuse_repetition)
INTEGER = BeforeValidator(_hide_other_numbers)
"""For a choice of integers."""
OPTIONAL = Field(exclude_if=lambda value: value is None, json_schema_extra=lambda schema: schema.pop("default", None))
"""A key that the settings lack where it is left out; its default None is no value that may be given."""


def number(**bounds: float) -> Any:
    """The type of a finite number; an integer stays one."""
    return Annotated[float, Field(allow_inf_nan=False, **bounds), WrapValidator(_keep_integer)]


Share = number(ge=0, le=1)
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0)]
Methods = Annotated[list[str], Field(min_length=1), UNIQUE]
Seeds = Annotated[list[Seed], Field(min_length=1), UNIQUE]


def defaults(model: type[Section]) -> Any:
    """A section that may be left out."""
    return Field(default_factory=model, description=model.__doc__)


def either(**branches: Any) -> Any:
    """A union of types by the kind of value: text, number, list or section; others are taken for the first.

    So a message is about the branch that was meant.
    """

    def choose(value: Any) -> str:
        kinds = {Mapping | BaseModel: "section", list: "list", bool: "", int | float: "number", str: "text"}
        kind = next((name for types, name in kinds.items() if isinstance(value, types)), "")
        return f"<{kind if kind in branches else next(iter(branches))}>"

    return Annotated[
        reduce(or_, (Annotated[branch, Tag(f"<{kind}>")] for kind, branch in branches.items())),
        Discriminator(choose),
    ]
