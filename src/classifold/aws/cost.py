"""What a training job costs: an hour, at most, and how long it may run for a given sum."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.config import Config as ClientConfig

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.aws.spot_risk import explain_risk
from classifold.counts import count_of
from classifold.errors import AwsError, Fault, JobError, MissingError

# A job that may run less long than this does not get from its start to a trained model.
SHORTEST_SECONDS = 600
# What SageMaker itself takes where a request names no longest time.
# Source: CreateTrainingJob's reference, StoppingCondition.
DEFAULT_MAX_SECONDS = 24 * 3600
# Where the Pricing API lives; the last is for every region that is near to none of them.
_PRICING_REGIONS = (("eu-", "eu-central-1"), ("ap-", "ap-south-1"), ("", "us-east-1"))


@dataclass(frozen=True)
class Price:
    """What one machine costs.

    Attributes:
        usd_per_hour: US dollars an hour, on demand, without tax.
        source: Where the price comes from, with its date.
    """

    usd_per_hour: float
    source: str


@dataclass(frozen=True)
class CostEstimate:
    """What a job costs; without its disks, requests and logs, which are cents.

    Attributes:
        usd_per_hour: Of all its machines together; None where no price is known.
        usd_at_most: If it runs until it is stopped, with its time to save and the time it is kept warm.
        source: Where the price comes from; empty where none is known.
        remarks: What to know about the figures, a sentence each.
    """

    usd_per_hour: float | None
    usd_at_most: float | None
    source: str
    remarks: tuple[str, ...] = ()


def find_price(aws: Aws, instance_type: str, *, spot: bool) -> Price:
    """Return the price of a machine in the project's region: AWS's own of today, else that of a dated table.

    There is no list of spot prices for SageMaker: what spot saves is known after the job. So the full price
    is given for it, as the upper bound.

    Args:
        aws: The way in.
        instance_type: SageMaker's name of the machine, as ml.g4dn.xlarge.
        spot: Whether it is for spare capacity.

    Raises:
        MissingError: Neither AWS nor the table names a price.
    """
    bound = ", full price: what spot saves is known after the job" if spot else ""
    usd = _ask_price(aws, instance_type)
    if usd is not None:
        return Price(usd, f"AWS's price list of today{bound}")
    table = _load_table()
    usd = table.find(aws.region, instance_type)
    if usd is None:
        where = f"the price of {instance_type} in {aws.region}"
        what = "AWS's price list cannot be asked, or does not have it, and the table that comes along neither"
        hint = "give the right pricing:GetProducts, or see https://aws.amazon.com/sagemaker/pricing/"
        raise MissingError(Fault(where, what, hint=hint))
    return Price(usd, f"a table of list prices collected on {table.collected}, approximate{bound}")


def _ask_price(aws: Aws, instance_type: str) -> float | None:
    """Return what AWS's price list says; None where it cannot be asked or has no such machine."""
    if aws.partition != "aws":
        return None
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": aws.region},
        {"Type": "CONTAINS", "Field": "usagetype", "Value": f"Train:{instance_type}"},
    ]
    try:
        with aws_errors(f"ask for the price of {instance_type}"):
            pages = _pricing_client(aws).get_paginator("get_products")
            found = [
                usd
                for page in pages.paginate(ServiceCode="AmazonSageMaker", Filters=filters)
                for product in page["PriceList"]
                for usd in read_product(product, instance_type)
            ]
    except AwsError:
        return None
    return max(found, default=None)


def _pricing_client(aws: Aws) -> Any:
    """Return the client of the Pricing API, which gives up soon: a table stands ready."""
    region = next(region for start, region in _PRICING_REGIONS if aws.region.startswith(start))
    settings = ClientConfig(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 2}
    )
    return aws.session.client("pricing", region_name=region, config=settings)


def read_product(text: str, instance_type: str) -> Iterator[float]:
    """Yield the prices an hour of one product, where that is training on this machine.

    Its usage type is `<region's short name>-Train:<machine>`; those of hosting, notebooks and warm pools have
    other words in front.
    """
    try:
        product = json.loads(text)
        usage = str(product["product"]["attributes"]["usagetype"])
        if not re.fullmatch(rf"([A-Z0-9]+-)?Train:{re.escape(instance_type)}", usage):
            return
        for term in product["terms"]["OnDemand"].values():
            for dimension in term["priceDimensions"].values():
                usd = float(dimension["pricePerUnit"]["USD"])
                # Free tiers stand in the list with a price of nothing.
                if dimension["unit"] == "Hrs" and 0 < usd < math.inf:
                    yield usd
    except (ValueError, KeyError, TypeError, AttributeError):
        return


@dataclass(frozen=True)
class _Table:
    """The prices that come along: by region, by machine, in US dollars an hour."""

    collected: str
    usd_per_hour: Mapping[str, Mapping[str, float]]

    def find(self, region: str, instance_type: str) -> float | None:
        """Return a price; a region is listed with those that have the same ones."""
        for regions, prices in self.usd_per_hour.items():
            if region in regions.split():
                return prices.get(instance_type)
        return None


@functools.cache
def _load_table() -> _Table:
    text = importlib.resources.files("classifold.aws").joinpath("prices.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return _Table(collected=found["collected"], usd_per_hour=found["usd_per_hour"])


def list_machines(request: Mapping[str, Any]) -> list[str]:
    """Return the instance types that a request names, the first the preferred one."""
    resources = request["ResourceConfig"]
    preferred = [one["InstanceType"] for one in resources.get("InstancePreferences", [])]
    return preferred or [resources["InstanceType"]]


def estimate_cost(aws: Aws, request: Mapping[str, Any]) -> CostEstimate:
    """Return what a job costs; the dearest of its instance types counts.

    Args:
        aws: The way in.
        request: CreateTrainingJob's parameters.

    Returns:
        The estimate; with no figures where no price is known, and the reason in its remarks.
    """
    is_spot = bool(request.get("EnableManagedSpotTraining"))
    try:
        prices = [find_price(aws, one, spot=is_spot) for one in list_machines(request)]
    except MissingError as error:
        fault = error.faults[0]
        return CostEstimate(None, None, "", (f"{fault.where} is not known: {fault.what}",))
    price = max(prices, key=lambda one: one.usd_per_hour)
    per_hour = price.usd_per_hour * _count_machines(request)
    seconds = _max_seconds(request) + _further_seconds(request)
    return CostEstimate(
        usd_per_hour=round(per_hour, 4),
        usd_at_most=_round_up(per_hour * seconds / 3600),
        source=price.source,
        remarks=tuple(_list_remarks(request, is_spot=is_spot)),
    )


def _list_remarks(request: Mapping[str, Any], *, is_spot: bool) -> Iterator[str]:
    """Yield what to know about the figures."""
    count, machines = _count_machines(request), list_machines(request)
    if count > 1:
        yield f"for {count} machines together"
    if len(machines) > 1:
        yield f"for the dearest of {', '.join(machines)}"
    if is_spot:
        yield "spare capacity is billed at less, how much is known after the job; waiting is free"
        yield from filter(None, [explain_risk(request)])
    if _warm_seconds(request):
        minutes = _warm_seconds(request) // 60
        waiting = count_of(minutes, "minute")
        yield f"with {waiting} in which the machine waits for the next job, billed as training is"


def fit_budget(
    request: Mapping[str, Any], cost: CostEstimate, *, max_cost: float
) -> tuple[dict[str, Any], CostEstimate, str]:
    """Return a request that costs no more than `max_cost`: shortened where that leaves time enough.

    Args:
        request: CreateTrainingJob's parameters.
        cost: Its estimate.
        max_cost: US dollars.

    Returns:
        The request, its estimate, and what was changed in a sentence; empty where nothing had to be.

    Raises:
        JobError: Less than ten minutes can be had for so much, or no price is known.
    """
    where = f"--max-cost {max_cost:g}"
    if cost.usd_per_hour is None or cost.usd_at_most is None:
        raise JobError(
            Fault(where, "; ".join(cost.remarks), hint="start it without --max-cost, or see docs/aws.md")
        )
    if cost.usd_at_most <= max_cost:
        return dict(request), cost, ""
    further = _further_seconds(request)
    seconds = math.floor(max_cost / cost.usd_per_hour * 3600) - further
    if seconds < SHORTEST_SECONDS:
        least = _round_up(cost.usd_per_hour * (SHORTEST_SECONDS + further) / 3600)
        what = f"ten minutes of it cost {least:g} USD ({cost.usd_per_hour:g} USD an hour)"
        hint = "allow more, or take a cheaper INSTANCE_TYPE, fewer machines, or no KEEP_ALIVE_MINUTES"
        raise JobError(Fault(where, what, hint=hint))
    before, shorter = _max_seconds(request), copy.deepcopy(dict(request))
    shorter.setdefault("StoppingCondition", {})["MaxRuntimeInSeconds"] = seconds
    at_most = _round_up(cost.usd_per_hour * (seconds + further) / 3600)
    capped = CostEstimate(cost.usd_per_hour, min(at_most, max_cost), cost.source, cost.remarks)
    said = f"the job is stopped after {_hours(seconds)} instead of {_hours(before)}, so that it costs no more"
    return shorter, capped, said


def _count_machines(request: Mapping[str, Any]) -> int:
    return int(request["ResourceConfig"].get("InstanceCount", 1))


def _max_seconds(request: Mapping[str, Any]) -> int:
    return int(request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_MAX_SECONDS))


def _warm_seconds(request: Mapping[str, Any]) -> int:
    return int(request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0))


def _further_seconds(request: Mapping[str, Any]) -> int:
    """Return what is paid beyond the longest time: saving, once the job was stopped, and being kept warm."""
    return names.STOP_SECONDS + _warm_seconds(request)


def _round_up(usd: float) -> float:
    """Return the sum in whole cents, never less than it is."""
    return math.ceil(round(usd * 100, 6)) / 100


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else count_of(seconds // 60, "minute")
