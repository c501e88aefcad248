"""What an endpoint or a transform job costs an hour, and the refusal of one that costs too much."""

from __future__ import annotations

from dataclasses import dataclass

from classifold.aws.clients import Aws
from classifold.aws.cost import ASYNC, HOSTING, TRANSFORM, find_price, find_serverless_price
from classifold.errors import Fault, JobError, MissingError
from classifold.money import format_usd
from classifold.sagemaker.endpoint_request import Hosting

# Seconds of work per request in the figure for a million requests: about what a picture takes.
_REQUEST_SECONDS = 0.1


@dataclass(frozen=True)
class HostingCost:
    """What an endpoint costs, without data transfer, disks, captured data and logs.

    Attributes:
        usd_per_hour: US dollars per hour with the least number of machines; None if no price is known.
        usd_per_hour_at_most: US dollars per hour with all machines that autoscaling may add; for a serverless
            endpoint, if it is busy all the time. None if no price is known.
        usd_per_million: US dollars of a million requests of 0.1 s; None if it is not serverless, or no price
            is known.
        source: Origin of the price; empty if none is known.
        remarks: What the user should know about the figures, one sentence each.
    """

    usd_per_hour: float | None
    usd_per_hour_at_most: float | None
    usd_per_million: float | None = None
    source: str = ""
    remarks: tuple[str, ...] = ()


def estimate_hosting(aws: Aws, hosting: Hosting) -> HostingCost:
    """Return what an endpoint costs; without figures, and with the reason, if no price is known."""
    if hosting.kind == "serverless":
        return _estimate_serverless(aws, hosting)
    use = ASYNC if hosting.kind == "async" else HOSTING
    found = _estimate(aws, hosting.instance_type, use, count=hosting.count, largest=hosting.largest)
    if hosting.kind == "async" and found.usd_per_hour is not None and hosting.count == 0:
        return _with_remark(found, "nothing while no request waits: then it has no machine")
    return found


def estimate_transform(aws: Aws, instance_type: str, count: int) -> HostingCost:
    """Return what a transform job costs per hour."""
    return _estimate(aws, instance_type, TRANSFORM, count=count, largest=count)


def _estimate(aws: Aws, instance_type: str, use: str, *, count: int, largest: int) -> HostingCost:
    try:
        price = find_price(aws, instance_type, use=use)
    except MissingError as error:
        fault = error.faults[0]
        return HostingCost(None, None, remarks=(f"{fault.where} is not known: {fault.what}",))
    per_hour = price.usd_per_hour
    remarks = [f"for {count} machines together"] if count > 1 else []
    if largest > count:
        remarks.append(f"at most: with all {largest} machines that autoscaling may add")
    if use in (HOSTING, ASYNC):
        remarks.append("billed from the start of each machine until it is removed, even without requests")
    return HostingCost(
        round(count * per_hour, 4),
        round(largest * per_hour, 4),
        source=price.source,
        remarks=tuple(remarks),
    )


def _estimate_serverless(aws: Aws, hosting: Hosting) -> HostingCost:
    price = find_serverless_price(aws, hosting.memory_mb)
    if price is None:
        what = f"the price of serverless endpoints in {aws.region} is not known"
        hint = "see https://aws.amazon.com/sagemaker/pricing/, or grant the permission pricing:GetProducts"
        return HostingCost(None, None, remarks=(f"{what}: {hint}",))
    second = price.usd_per_hour / 3600
    million = round(1e6 * _REQUEST_SECONDS * second, 2)
    remarks = (
        f"free without requests; {second:.7f} USD per second of processing with {hosting.memory_mb} MB",
        f"a million requests of {_REQUEST_SECONDS:g} s each: {format_usd(million)}, "
        "plus data transfer per GB",
        f"{format_usd(hosting.concurrency * price.usd_per_hour)} an hour if {hosting.concurrency} requests "
        "at once are processed all the time",
    )
    return HostingCost(
        0.0, round(hosting.concurrency * price.usd_per_hour, 4), million, price.source, remarks
    )


def _with_remark(cost: HostingCost, remark: str) -> HostingCost:
    return HostingCost(
        cost.usd_per_hour,
        cost.usd_per_hour_at_most,
        cost.usd_per_million,
        cost.source,
        (*cost.remarks, remark),
    )


def check_hourly_cost(cost: HostingCost, max_hourly_cost: float | None) -> None:
    """Refuse an endpoint that may cost more an hour than allowed.

    Args:
        cost: Its cost.
        max_hourly_cost: US dollars an hour, at most; None for no limit.

    Raises:
        JobError: It may cost more, or no price is known.
    """
    if max_hourly_cost is None:
        return
    where = f"--max-hourly-cost {max_hourly_cost:g}"
    if cost.usd_per_hour_at_most is None:
        hint = "start it without --max-hourly-cost, or see docs/deploy.md"
        raise JobError(Fault(where, "; ".join(cost.remarks), hint=hint))
    if cost.usd_per_hour_at_most > max_hourly_cost:
        what = f"it may cost {format_usd(cost.usd_per_hour_at_most)} an hour"
        cure = "choose a cheaper machine or fewer of them"
        if cost.usd_per_million is not None:  # it is serverless
            cure = "lower SERVERLESS_MEMORY_MB or SERVERLESS_CONCURRENCY"
        hint = f"raise it, or {cure}"
        raise JobError(Fault(where, what, hint=hint))
