"""What SageMaker keeps under a name in a region: models, endpoints and their configurations, jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lab.validation import InvalidError


@dataclass
class Resource:
    """One of them.

    Attributes:
        request: The parameters that it was made with.
        name: Its name.
        arn: Its ARN; SageMaker's own are in lower case.
        region: Where it is.
        tags: Its tags.
        created: When it was made, in seconds since 1970.
        modified: When it was changed last.
    """

    request: dict[str, Any]
    name: str
    arn: str
    region: str
    tags: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    status: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def enter(self, status: str) -> None:
        """Go to another status."""
        with self.lock:
            self.status, self.modified = status, time.time()


Kind = TypeVar("Kind", bound=Resource)


class Shelf(Generic[Kind]):
    """The resources of one kind.

    Attributes:
        kind: As ARNs have it: endpoint-config.
        noun: As the service's messages have it: endpoint configuration.
    """

    def __init__(self, account: str, kind: str, noun: str, make: type[Kind]) -> None:
        self.account = account
        self.kind = kind
        self.noun = noun
        self.make = make
        self._kept: dict[tuple[str, str], Kind] = {}

    def arn(self, name: str, region: str) -> str:
        """Return the ARN of a name."""
        return f"arn:aws:sagemaker:{region}:{self.account}:{self.kind}/{name.lower()}"

    def check_new(self, name: str, region: str) -> None:
        """Refuse a name that is taken; SageMaker takes upper and lower case for the same."""
        arn = self.arn(name, region)
        if any(one.arn == arn for one in self._kept.values()):
            raise InvalidError(f'Cannot create already existing {self.noun} "{arn}".')

    def add(self, name: str, region: str, request: dict[str, Any]) -> Kind:
        """Keep a new one.

        Raises:
            InvalidError: The name is taken.
        """
        self.check_new(name, region)
        tags = {one["Key"]: one["Value"] for one in request.get("Tags", [])}
        made = self.make(request, name, self.arn(name, region), region, tags)
        self._kept[region, name] = made
        return made

    def put(self, one: Kind) -> None:
        """Keep one that was made elsewhere."""
        self._kept[one.region, one.name] = one

    def find(self, name: str, region: str) -> Kind:
        """Return the one of a name.

        Raises:
            InvalidError: There is none.
        """
        found = self.get(name, region)
        if found is None:
            raise InvalidError(f'Could not find {self.noun} "{self.arn(name, region)}".')
        return found

    def get(self, name: str, region: str) -> Kind | None:
        """Return the one of a name, and None where there is none."""
        return self._kept.get((region, name))

    def remove(self, name: str, region: str) -> None:
        """Forget the one of a name."""
        self.find(name, region)
        del self._kept[region, name]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._kept.values()))

    def list(self, asked: dict[str, Any], region: str) -> tuple[Sequence[Kind], dict[str, str]]:
        """Return the page that a List call asks for, and the token of the next."""
        found = [one for one in self if one.region == region and _is_asked_for(one, asked)]
        by = {"Name": "name", "Status": "status", "LastModifiedTime": "modified"}
        order = by.get(asked.get("SortBy", ""), "created")
        found.sort(
            key=lambda one: getattr(one, order), reverse=asked.get("SortOrder", "Descending") != "Ascending"
        )
        start = int(asked.get("NextToken") or 0)
        end = start + int(asked.get("MaxResults") or 10)
        return found[start:end], {"NextToken": str(end)} if end < len(found) else {}


def _is_asked_for(one: Resource, asked: dict[str, Any]) -> bool:
    later = time.time() + 1
    return (
        asked.get("NameContains", "").lower() in one.name.lower()
        and asked.get("StatusEquals", one.status) == one.status
        and float(asked.get("CreationTimeAfter", 0)) <= one.created
        and float(asked.get("CreationTimeBefore", later)) >= one.created
        and float(asked.get("LastModifiedTimeAfter", 0)) <= one.modified
        and float(asked.get("LastModifiedTimeBefore", later)) >= one.modified
    )


def as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as the API shows them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]
