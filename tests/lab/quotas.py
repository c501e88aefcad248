"""Service Quotas and the price list, which moto lacks for SageMaker: answers in AWS's own shape."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lab.validation import InvalidError

# Dollars an hour of training, as they stood in us-east-1; eu-west-1 is a little dearer.
PRICES = {
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.p3.2xlarge": 3.825,
}
_REGIONS = {
    "us-east-1": ("US East (N. Virginia)", "USE1", 1.0),
    "eu-west-1": ("EU (Ireland)", "EU", 1.1),
    "eu-central-1": ("EU (Frankfurt)", "EUC1", 1.2),
}
_USES = (
    *("training job usage", "spot training job usage", "training warm pool usage"),
    *("endpoint usage", "transform job usage"),
)
_OVER = (
    "The account-level service limit '{name}' is {limit:g} {unit}, with current utilization of {used} {unit} "
    "and a request delta of {wanted} {unit}. Please use AWS Service Quotas to request an increase for this "
    "quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this "
    "quota."
)
# What the price list calls the uses of a machine, in usage types and in words.
_PRICED = {"Train": "Training", "Host": "Hosting", "AsyncInf": "Async Inference", "Tsform": "Batch Transform"}
SERVERLESS = "Maximum total concurrency that can be allocated across all serverless endpoints"


class Quotas:
    """How many machines of each type the account may use, and what they cost.

    Attributes:
        values: Quota by name, such as `ml.g4dn.xlarge for training job usage`.
        prices: Dollars an hour by instance type, in us-east-1.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.prices: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Return to what the lab starts with: four machines of every type for every use."""
        self.values = {f"{one} for {use}": 4.0 for one in PRICES for use in _USES}
        self.values[SERVERLESS] = 10.0
        self.prices = dict(PRICES)

    def set(self, name: str, value: float) -> None:
        """Set a quota; an instance type alone stands for its use in training jobs."""
        is_whole = " for " in name or name in self.values
        self.values[name if is_whole else f"{name} for training job usage"] = float(value)

    def for_training(self, instance_type: str, *, spot: bool) -> float:
        """Return how many machines of a type jobs may use; an unknown type has none."""
        return self.values.get(f"{instance_type} for {'spot ' if spot else ''}training job usage", 0.0)

    def check(self, name: str, *, used: int, wanted: int) -> None:
        """Refuse more than a quota allows.

        Args:
            name: Of the quota.
            used: How much of it is in use.
            wanted: How much more is asked for.

        Raises:
            InvalidError: As ResourceLimitExceeded.
        """
        limit = self.values.get(name, 0.0)
        if used + wanted > limit:
            unit = "None" if name == SERVERLESS else "Instances"
            said = _OVER.format(name=name, limit=limit, used=used, wanted=wanted, unit=unit)
            raise InvalidError(said, code="ResourceLimitExceeded")

    def list_quotas(self, asked: dict[str, Any], *, region: str, account: str) -> dict[str, Any]:
        """Answer ListServiceQuotas and ListAWSDefaultServiceQuotas, page by page."""
        start = int(asked.get("NextToken") or 0)
        end = start + int(asked.get("MaxResults") or 100)
        names = sorted(self.values)
        answer: dict[str, Any] = {
            "Quotas": [self._describe(one, region, account) for one in names[start:end]]
        }
        return {**answer, "NextToken": str(end)} if end < len(names) else answer

    def get_quota(self, asked: dict[str, Any], *, region: str, account: str) -> dict[str, Any] | None:
        """Answer GetServiceQuota; None where there is no such code."""
        for name in self.values:
            if quota_code(name) == asked.get("QuotaCode"):
                return {"Quota": self._describe(name, region, account)}
        return None

    def _describe(self, name: str, region: str, account: str) -> dict[str, Any]:
        code = quota_code(name)
        return {
            "ServiceCode": "sagemaker",
            "ServiceName": "Amazon SageMaker",
            "QuotaArn": f"arn:aws:servicequotas:{region}:{account}:sagemaker/{code}",
            "QuotaCode": code,
            "QuotaName": name,
            "Value": self.values[name],
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
            "QuotaAppliedAtLevel": "ACCOUNT",
        }

    def get_products(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer Pricing's GetProducts: every entry of PriceList is a JSON text of its own."""
        products = [
            _describe_product(one, price, region, use)
            for one, price in self.prices.items()
            for region in _REGIONS
            for use in _PRICED
            if asked.get("ServiceCode") == "AmazonSageMaker"
        ]
        for rule in asked.get("Filters", []):
            products = [one for one in products if _matches(one["product"], rule)]
        start = int(asked.get("NextToken") or 0)
        end = start + int(asked.get("MaxResults") or 100)
        answer: dict[str, Any] = {
            "FormatVersion": "aws_v1",
            "PriceList": [json.dumps(one) for one in products[start:end]],
        }
        return {**answer, "NextToken": str(end)} if end < len(products) else answer


def quota_code(name: str) -> str:
    """Return a quota's code; the lab's own, as AWS's follow from nothing."""
    return f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"


def _matches(product: dict[str, Any], rule: dict[str, str]) -> bool:
    values = {**product["attributes"], "productFamily": product["productFamily"]}
    value, wanted = str(values.get(rule["Field"], "")).lower(), rule["Value"].lower()
    return wanted in value if rule["Type"] == "CONTAINS" else value == wanted


def _describe_product(instance_type: str, price: float, region: str, use: str) -> dict[str, Any]:
    location, short, factor = _REGIONS[region]
    sku = hashlib.sha256(f"{instance_type} {region} {use}".encode()).hexdigest()[:16].upper()
    dollars = f"{price * factor:.10f}"
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    said = f"${price * factor:g} per {_PRICED[use]} {instance_type} hour in {location}"
    dimension = {
        "unit": "Hrs",
        "endRange": "Inf",
        "description": said,
        "appliesTo": [],
        "rateCode": rate,
        "beginRange": "0",
        "pricePerUnit": {"USD": dollars},
    }
    return {
        "product": {
            "productFamily": "ML Instance",
            "attributes": {
                "component": _PRICED[use],
                "computeType": "Accelerated computing" if ".g" in instance_type else "Standard Instances",
                "instanceName": instance_type,
                "instanceType": f"{instance_type}-{_PRICED[use]}",
                "location": location,
                "locationType": "AWS Region",
                "operation": "RunInstance",
                "platoinstancename": instance_type.removeprefix("ml."),
                "platoinstancetype": _PRICED[use],
                "regionCode": region,
                "servicecode": "AmazonSageMaker",
                "servicename": "Amazon SageMaker",
                "usagetype": f"{short}-{use}:{instance_type}",
            },
            "sku": sku,
        },
        "serviceCode": "AmazonSageMaker",
        "terms": {
            "OnDemand": {
                term: {
                    "priceDimensions": {rate: dimension},
                    "sku": sku,
                    "effectiveDate": "2026-01-01T00:00:00Z",
                    "offerTermCode": "JRTCKXETXF",
                    "termAttributes": {},
                }
            }
        },
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    }
