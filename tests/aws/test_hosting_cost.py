"""What endpoints cost an hour, from AWS's list or the bundled table, and that no price is made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from classifold.aws.clients import Aws
from classifold.aws.cost import read_product
from classifold.aws.hosting_cost import check_hourly_cost, estimate_hosting, estimate_transform
from classifold.errors import JobError
from classifold.sagemaker.endpoint_request import Hosting, choose_hosting
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud


def aws_of(region: str) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "petals", "PROJECT_REGION": region}))


def test_an_endpoint_costs_its_machines_and_at_most_those_of_autoscaling(aws_account: Cloud) -> None:
    cost = estimate_hosting(aws_of("us-east-1"), Hosting("real-time", "ml.m5.large", 2, max_count=5))
    assert (cost.usd_per_hour, cost.usd_per_hour_at_most) == (0.23, 0.575)
    assert cost.source == "AWS's price list of today"
    check_hourly_cost(cost, 0.6)
    with pytest.raises(JobError, match=r"it may cost 0\.57 USD an hour"):
        check_hourly_cost(cost, 0.5)


def test_a_dearer_use_of_a_machine_has_its_own_price(aws_account: Cloud) -> None:
    product = {
        "product": {"attributes": {"usagetype": "EU-AsyncInf:ml.m5.large"}},
        "terms": {
            "OnDemand": {"a": {"priceDimensions": {"b": {"unit": "Hrs", "pricePerUnit": {"USD": "0.2"}}}}}
        },
    }
    text = json.dumps(product)
    assert list(read_product(text, "ml.m5.large", use="AsyncInf")) == [0.2]
    assert list(read_product(text, "ml.m5.large", use="Host")) == []
    assert list(read_product(text, "ml.m5.large", use="AsyncInf", unit="Seconds")) == []


def test_without_the_price_list_the_table_is_used_and_says_so(aws_account: Cloud) -> None:
    aws_account.deny("pricing:GetProducts")
    cost = estimate_transform(aws_of("us-east-1"), "ml.m5.xlarge", 3)
    assert cost.usd_per_hour == 0.69
    assert cost.source.startswith("a table of list prices collected on ")


def test_the_default_endpoint_has_a_price_in_the_default_region_without_the_price_list(
    aws_account: Cloud,
) -> None:
    aws_account.deny("pricing:GetProducts")
    config = build_config({"PROJECT_NAME": "petals"})
    cost = estimate_hosting(Aws(config), choose_hosting(config))
    assert cost.usd_per_hour is not None
    assert cost.source.startswith("a table of list prices collected on ")
    check_hourly_cost(cost, 1.0)


def test_a_price_that_nobody_knows_is_not_made_up_and_refuses_a_limit(aws_account: Cloud) -> None:
    cost = estimate_hosting(aws_of("us-east-1"), Hosting("real-time", "ml.x9.huge"))
    assert cost.usd_per_hour is None
    check_hourly_cost(cost, None)
    with pytest.raises(JobError, match="is not known"):
        check_hourly_cost(cost, 100.0)


def test_serverless_costs_by_the_second_of_work_and_memory(aws_account: Cloud) -> None:
    aws = aws_of("us-east-1")
    cost = estimate_hosting(aws, choose_hosting(aws.config, kind="serverless"))
    assert cost.usd_per_hour == 0.0
    assert cost.usd_per_million == 4.0
    assert cost.usd_per_hour_at_most == pytest.approx(5 * 2 * 0.00002 * 3600)
    assert "0.0000400 USD per second of processing with 2048 MB" in cost.remarks[0]
    with pytest.raises(JobError) as error:
        check_hourly_cost(cost, 0.5)
    assert error.value.faults[0].hint == "raise it, or lower SERVERLESS_MEMORY_MB or SERVERLESS_CONCURRENCY"
    unknown = aws_of("sa-east-1")
    assert estimate_hosting(unknown, choose_hosting(unknown.config, kind="serverless")).usd_per_hour is None


def test_an_endpoint_that_scales_to_zero_says_so(aws_account: Cloud) -> None:
    cost = estimate_hosting(aws_of("us-east-1"), Hosting("async", "ml.m5.large", 0, max_count=1))
    assert (cost.usd_per_hour, cost.usd_per_hour_at_most) == (0.0, 0.115)
    assert any("nothing while no request waits" in remark for remark in cost.remarks)
