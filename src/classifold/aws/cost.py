"""The cost of a training job: per hour and at most, and its time limit for a given sum."""

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
from classifold.money import format_usd

# A shorter job has no time to start, train and save a model.
SHORTEST_SECONDS = 600
# SageMaker's own time limit if a request has none.
# Source: CreateTrainingJob's reference, StoppingCondition.
DEFAULT_MAX_SECONDS = 24 * 3600
# What machines are used for, in the words of AWS's price list.
TRAINING, HOSTING, ASYNC, TRANSFORM = "Train", "Host", "AsyncInf", "Tsform"
# Regions that have the Pricing API, by the start of the project's region; the last is for all others.
_PRICING_REGIONS = (("eu-", "eu-central-1"), ("ap-", "ap-south-1"), ("", "us-east-1"))


@dataclass(frozen=True)
class Price:
    """The price of one machine.

    Attributes:
        usd_per_hour: On-demand price in US dollars per hour, without tax.
        source: Origin of the price, with its date.
    """

    usd_per_hour: float
    source: str


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a job, without its disks, requests and logs, which cost cents.

    Attributes:
        usd_per_hour: US dollars per hour of all its machines together; None if no price is known.
        usd_at_most: US dollars if it runs to its time limit, with the time to save after the stop and the
            keep-alive time; None if no price is known.
        source: Origin of the price; empty if none is known.
        remarks: What the user should know about the figures, one sentence each.
    """

    usd_per_hour: float | None
    usd_at_most: float | None
    source: str
    remarks: tuple[str, ...] = ()


def find_price(aws: Aws, instance_type: str, *, spot: bool = False, use: str = TRAINING) -> Price:
    """Return the price of a machine in the project's region: from AWS's price list, else from a dated table.

    For spot it is the full price, as an upper bound: SageMaker publishes no spot prices, so what spot saves
    is known only after the job.

    Args:
        aws: The connection to AWS.
        instance_type: SageMaker's name of the machine, such as ml.g4dn.xlarge.
        spot: Whether the machine is spot capacity.
        use: What it is used for, in the words of AWS's price list: TRAINING, HOSTING, ASYNC or TRANSFORM.

    Raises:
        MissingError: Neither AWS nor the table has a price.
    """
    bound = ", full price: what spot saves is known after the job" if spot else ""
    usd = _ask_price(aws, instance_type, use)
    if usd is not None:
        return Price(usd, f"AWS's price list of today{bound}")
    table = _load_table()
    usd = table.find(aws.region, instance_type)
    if usd is None:
        where = f"the price of {instance_type} in {aws.region}"
        what = "it is not in the bundled table, and AWS's price list cannot be read or does not have it"
        hint = "grant the permission pricing:GetProducts, or see https://aws.amazon.com/sagemaker/pricing/"
        raise MissingError(Fault(where, what, hint=hint))
    return Price(usd, f"a table of list prices collected on {table.collected}, approximate{bound}")


def find_serverless_price(aws: Aws, memory_mb: int) -> Price | None:
    """Return the price of an hour of a serverless endpoint's work; None if no price is known.

    It is billed for the time in which it works on requests, by the millisecond.

    Args:
        aws: The connection to AWS.
        memory_mb: Memory of the endpoint in MB.
    """
    size = memory_mb // 1024
    usd = _ask_price(aws, f"Mem-{size}GB", "ServerlessInf", "Seconds")
    if usd is not None:
        return Price(usd * 3600, "AWS's price list of today")
    table = _load_table()
    each = table.find_serverless(aws.region)
    if each is None:
        return None
    return Price(each * size * 3600, f"a table of list prices collected on {table.collected}, approximate")


def find_list_price(region: str, instance_type: str) -> Price | None:
    """Return the price of a machine in the bundled table, without asking AWS; None if the table lacks it.

    Args:
        region: AWS's name of the region.
        instance_type: SageMaker's name of the machine, such as ml.g4dn.xlarge.
    """
    table = _load_table()
    usd = table.find(region, instance_type)
    return None if usd is None else Price(usd, f"a table of list prices collected on {table.collected}")


def _ask_price(aws: Aws, instance_type: str, use: str, unit: str = "Hrs") -> float | None:
    """Return the US dollars per unit in AWS's price list; None if it cannot be read or lacks the machine."""
    if aws.partition != "aws":
        return None
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": aws.region},
        {"Type": "CONTAINS", "Field": "usagetype", "Value": f"{use}:{instance_type}"},
    ]
    try:
        with aws_errors(f"ask for the price of {instance_type}"):
            pages = _pricing_client(aws).get_paginator("get_products")
            found = [
                usd
                for page in pages.paginate(ServiceCode="AmazonSageMaker", Filters=filters)
                for product in page["PriceList"]
                for usd in read_product(product, instance_type, use=use, unit=unit)
            ]
    except AwsError:
        return None
    return max(found, default=None)


def _pricing_client(aws: Aws) -> Any:
    """Return a client of the Pricing API that gives up soon, since there is a table to fall back on."""
    region = next(region for start, region in _PRICING_REGIONS if aws.region.startswith(start))
    settings = ClientConfig(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 2}
    )
    return aws.session.client("pricing", region_name=region, config=settings)


def read_product(text: str, instance_type: str, *, use: str = TRAINING, unit: str = "Hrs") -> Iterator[float]:
    """Yield the US dollars per unit of a product of the price list, if it is this use of this machine.

    Args:
        text: The product as JSON, as the Pricing API returns it.
        instance_type: SageMaker's name of the machine, or the price list's of a serverless memory size.
        use: What the machine is used for, in the price list's words.
        unit: What the price is for, in the price list's words.
    """
    try:
        product = json.loads(text)
        usage = str(product["product"]["attributes"]["usagetype"])
        # Notebooks, warm pools and other uses have other words in place of it.
        if not re.fullmatch(rf"([A-Z0-9]+-)?{use}:{re.escape(instance_type)}", usage):
            return
        for term in product["terms"]["OnDemand"].values():
            for dimension in term["priceDimensions"].values():
                usd = float(dimension["pricePerUnit"]["USD"])
                # Free tiers are in the list with a price of 0.
                if dimension["unit"].lower() == unit.lower() and 0 < usd < math.inf:
                    yield usd
    except (ValueError, KeyError, TypeError, AttributeError):
        return


@dataclass(frozen=True)
class _Table:
    """The bundled prices in US dollars per hour, by region and by machine."""

    collected: str
    usd_per_hour: Mapping[str, Mapping[str, float]]
    usd_per_gb_second: Mapping[str, float]

    def find(self, region: str, instance_type: str) -> float | None:
        """Return the US dollars per hour; None if the table lacks the machine."""
        # Regions with the same prices share an entry.
        for regions, prices in self.usd_per_hour.items():
            if region in regions.split():
                return prices.get(instance_type)
        return None

    def find_serverless(self, region: str) -> float | None:
        """Return the US dollars per second and GB of a serverless endpoint; None if the table lacks it."""
        found = [usd for regions, usd in self.usd_per_gb_second.items() if region in regions.split()]
        return found[0] if found else None


@functools.cache
def _load_table() -> _Table:
    text = importlib.resources.files("classifold.aws").joinpath("prices.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return _Table(found["collected"], found["usd_per_hour"], found["serverless_usd_per_gb_second"])


def list_machines(request: Mapping[str, Any]) -> list[str]:
    """Return the instance types that a request names, the first the preferred one."""
    resources = request["ResourceConfig"]
    preferred = [one["InstanceType"] for one in resources.get("InstancePreferences", [])]
    return preferred or [resources["InstanceType"]]


def estimate_cost(aws: Aws, request: Mapping[str, Any]) -> CostEstimate:
    """Return what a job costs, assuming the most expensive of its instance types.

    Args:
        aws: The connection to AWS.
        request: CreateTrainingJob's parameters.

    Returns:
        The estimate; if no price is known, without figures and with the reason in its remarks.
    """
    is_spot = bool(request.get("EnableManagedSpotTraining"))
    try:
        prices = [find_price(aws, machine, spot=is_spot) for machine in list_machines(request)]
    except MissingError as error:
        fault = error.faults[0]
        return CostEstimate(None, None, "", (f"{fault.where} is not known: {fault.what}",))
    price = max(prices, key=lambda each: each.usd_per_hour)
    per_hour = price.usd_per_hour * _count_machines(request)
    seconds = _max_seconds(request) + _further_seconds(request)
    return CostEstimate(
        usd_per_hour=round(per_hour, 4),
        usd_at_most=_round_up(per_hour * seconds / 3600),
        source=price.source,
        remarks=tuple(_list_remarks(request, is_spot=is_spot)),
    )


def _list_remarks(request: Mapping[str, Any], *, is_spot: bool) -> Iterator[str]:
    """Yield what the user should know about the figures."""
    count, machines = _count_machines(request), list_machines(request)
    if count > 1:
        yield f"for {count} machines together"
    if len(machines) > 1:
        yield f"for the most expensive of {', '.join(machines)}"
    if is_spot:
        yield "spot capacity is billed at less; how much less is known after the job; waiting is free"
        yield from filter(None, [explain_risk(request)])
    if _warm_seconds(request):
        minutes = _warm_seconds(request) // 60
        waiting = count_of(minutes, "minute")
        yield f"includes {waiting} in which the machine waits for the next job, billed like training"


def fit_budget(
    request: Mapping[str, Any], cost: CostEstimate, *, max_cost: float
) -> tuple[dict[str, Any], CostEstimate, str]:
    """Return a request that costs at most `max_cost`, with a lower time limit if that is needed.

    Args:
        request: CreateTrainingJob's parameters.
        cost: Estimate of the request's cost.
        max_cost: Upper limit of the cost in US dollars.

    Returns:
        The request, its estimate, and a sentence on what was changed; empty if nothing was.

    Raises:
        JobError: The sum pays for less than ten minutes, or no price is known.
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
        what = f"ten minutes of the job cost {format_usd(least)} ({format_usd(cost.usd_per_hour)} an hour)"
        hint = "raise it, or choose a cheaper INSTANCE_TYPE, fewer machines, or no KEEP_ALIVE_MINUTES"
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
    """Return the seconds that are billed beyond the time limit: saving after the stop, and keep-alive."""
    return names.STOP_SECONDS + _warm_seconds(request)


def _round_up(usd: float) -> float:
    """Return the sum rounded up to whole cents."""
    return math.ceil(round(usd * 100, 6)) / 100


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else count_of(seconds // 60, "minute")
