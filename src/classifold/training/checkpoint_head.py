"""The JSON of a checkpoint, checked before anything of it is used: its folder may hold anybody's files."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from classifold.training.journal import EpochRow

_Count = Annotated[int, Field(ge=0, le=10**9)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Shape = Annotated[tuple[Annotated[int, Field(ge=0, le=2**40)], ...], Field(max_length=16)]
# Kinds of arrays that hold numbers and nothing else: Booleans, signed and unsigned integers, floats.
_KINDS = "biuf"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _InsideHead(_Part):
    """The part of a stage's state that is not arrays; fields as in `state.StageState`."""

    before: _Count | None
    num_epochs: _Count
    step: _Count
    # What is no number is written as a text: "nan", "inf".
    sums: tuple[float | Literal["nan", "inf", "-inf"], float | Literal["nan", "inf", "-inf"]]
    seconds: _Seconds
    stage: Annotated[str, Field(max_length=100)]


class _PlanHead(_Part):
    num_training: _Count
    num_variants: _Count
    seconds: _Seconds = 0.0


class _Facts(BaseModel):
    """What the run was made from; fields that other versions add are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    settings: dict[str, Any]
    versions: dict[str, str]
    backend: str = ""
    hosts: int = Field(1, ge=1)
    plan: _PlanHead | None = None


class _Head(BaseModel):
    """The fields of a checkpoint's JSON that are used."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    written: str
    stage: int = Field(ge=0, le=100)
    rows: list[dict[str, Any]]
    inside: _InsideHead | None
    seconds: dict[str, _Seconds]
    facts: _Facts
    arrays: dict[str, list[tuple[Annotated[str, Field(max_length=8)], _Shape]]]

    @field_validator("written")
    @classmethod
    def _check_time(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("expected a time with its zone")
        return value

    @field_validator("rows")
    @classmethod
    def _check_rows(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"int": int, "str": str, "bool": bool, "float": (int, float, str)}
        kinds = {name: wanted[str(field.type)] for name, field in EpochRow.__dataclass_fields__.items()}
        for row in value:
            if set(row) != set(kinds) or not all(isinstance(row[name], kinds[name]) for name in kinds):
                raise ValueError("a row does not belong to an epoch")
        return value

    @field_validator("arrays")
    @classmethod
    def _check_kinds(cls, value: dict[str, Any]) -> dict[str, Any]:
        for kind in {kind for arrays in value.values() for kind, _ in arrays}:
            try:
                found = np.dtype(kind)
            except (TypeError, ValueError, SyntaxError):
                found = None
            if found is None or found.kind not in _KINDS or found.str != kind:
                raise ValueError(f"unknown kind of number: {kind!r}")
        return value

    @model_validator(mode="after")
    def _check_inside(self) -> _Head:
        wanted = {"weights", "seeds"}
        if self.inside is not None:
            wanted |= {"kept", "current", "optimizer", "inside_seeds"}
            if self.inside.before is not None and self.inside.before >= len(self.rows):
                raise ValueError("the epoch before the stage has no row")
        if missing := wanted - set(self.arrays):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if len(self.arrays.get("scaling", [None, None])) != 2:
            raise ValueError("a scaling must be two arrays")
        return self


def find_head_fault(text: str, *, num_bytes: int) -> str:
    """Return what is wrong with a checkpoint's JSON; empty where it can be used.

    Args:
        text: Content of the JSON file.
        num_bytes: Size of all arrays together, in bytes; the JSON must describe arrays of exactly this size.
    """
    try:
        checked = _Head.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'its content'} is wrong: {first['msg']}"
    described = sum(
        math.prod(shape) * np.dtype(kind).itemsize
        for arrays in checked.arrays.values()
        for kind, shape in arrays
    )
    return "" if described == num_bytes else f"its arrays have {described:,} bytes, expected {num_bytes:,}"
