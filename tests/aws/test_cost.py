"""What a job costs: asked of AWS, else read from a dated table; never invented, never rounded down."""

from __future__ import annotations

import importlib.resources
import json
import re
from datetime import date
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.aws.clients import Aws
from classifold.aws.cost import (
    CostEstimate,
    estimate_cost,
    find_list_price,
    find_price,
    fit_budget,
    read_product,
)
from classifold.errors import JobError, MissingError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud


def aws_in(region: str = "eu-west-1") -> Aws:
    return Aws(build_config({"PROJECT_REGION": region}))


def request_of(*, seconds: int = 3600, count: int = 1, **more: Any) -> dict[str, Any]:
    resources = {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": count, **more.pop("ResourceConfig", {})}
    return {"ResourceConfig": resources, "StoppingCondition": {"MaxRuntimeInSeconds": seconds}, **more}


def test_the_price_is_the_regions_of_today_for_training(aws_account: Cloud) -> None:
    aws_account.set_prices({"ml.g4dn.xlarge": 0.7364, "ml.g4dn.2xlarge": 9.0})
    price = find_price(aws_in("us-east-1"), "ml.g4dn.xlarge", spot=False)
    assert price.usd_per_hour == 0.7364
    assert price.source == "AWS's price list of today"
    assert find_price(aws_in("eu-west-1"), "ml.g4dn.xlarge", spot=False).usd_per_hour > 0.7364


def test_the_price_list_is_asked_where_it_lives(aws_account: Cloud) -> None:
    for region in ("eu-west-1", "us-east-1"):
        find_price(aws_in(region), "ml.m5.xlarge", spot=False)
    asked = [call["region"] for call in aws_account.calls("GetProducts")]
    assert asked == ["eu-central-1", "us-east-1"]


@pytest.mark.parametrize("trouble", ["denied", "broken", "unknown there"])
def test_without_the_price_list_a_dated_table_says_so(trouble: str, aws_account: Cloud) -> None:
    if trouble == "denied":
        aws_account.deny("pricing:GetProducts")
    elif trouble == "broken":
        aws_account.fail("GetProducts")
    else:
        aws_account.set_prices({})
    price = find_price(aws_in(), "ml.g4dn.xlarge", spot=False)
    assert price.usd_per_hour == 0.822
    assert re.search(r"collected on \d{4}-\d\d-\d\d, approximate", price.source)


def test_a_price_that_nobody_knows_is_not_invented(aws_account: Cloud) -> None:
    aws_account.set_prices({})
    with pytest.raises(MissingError, match=r"ml\.p5\.48xlarge in eu-west-1"):
        find_price(aws_in(), "ml.p5.48xlarge", spot=False)


def test_spot_is_the_full_price_as_the_upper_bound(aws_account: Cloud) -> None:
    full = find_price(aws_in(), "ml.m5.xlarge", spot=False)
    spot = find_price(aws_in(), "ml.m5.xlarge", spot=True)
    assert spot.usd_per_hour == full.usd_per_hour
    assert "what spot saves is known after the job" in spot.source


def test_products_that_are_not_training_or_cost_nothing_are_passed_over(aws_account: Cloud) -> None:
    # The lab's list has one product a machine; the others that AWS has are told apart by the usage type.
    def product(usage: str, usd: str, unit: str = "Hrs") -> str:
        dimension = {"unit": unit, "pricePerUnit": {"USD": usd}}
        terms = {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}}
        return json.dumps({"product": {"attributes": {"usagetype": usage}}, "terms": terms})

    def read(text: str) -> list[float]:
        return list(read_product(text, "ml.m5.xlarge"))

    assert read(product("EU-Train:ml.m5.xlarge", "0.257")) == [0.257]
    assert read(product("Train:ml.m5.xlarge", "0.23")) == [0.23]
    for usage in ("EU-Host:ml.m5.xlarge", "EU-Train:ml.m5.xlarge.more", "EU-WarmPoolTrain:ml.m5.xlarge"):
        assert read(product(usage, "0.257")) == []
    assert read(product("EU-Train:ml.m5.xlarge", "0.0000000000")) == []
    assert read(product("EU-Train:ml.m5.xlarge", "1", "GB-Mo")) == []
    assert read("[]") == []
    assert read("not JSON") == []
    assert read('{"product": {}}') == []


def test_an_estimate_is_all_machines_for_the_longest_time(aws_account: Cloud) -> None:
    aws_account.set_prices({"ml.g4dn.xlarge": 1.0})
    cost = estimate_cost(aws_in("us-east-1"), request_of(seconds=9000, count=4))
    assert cost.usd_per_hour == 4.0
    # With two minutes to save in, once it was stopped.
    assert cost.usd_at_most == 10.14
    assert "for 4 machines together" in cost.remarks


def test_an_estimate_takes_the_dearest_machine_and_the_time_kept_warm(aws_account: Cloud) -> None:
    aws_account.set_prices({"ml.g4dn.xlarge": 1.0, "ml.g5.xlarge": 2.0})
    preferences = [{"InstanceType": "ml.g4dn.xlarge"}, {"InstanceType": "ml.g5.xlarge"}]
    request = request_of(seconds=3600)
    request["ResourceConfig"] = {
        "InstancePreferences": preferences,
        "InstanceCount": 1,
        "KeepAlivePeriodInSeconds": 1800,
    }
    cost = estimate_cost(aws_in("us-east-1"), request)
    assert (cost.usd_per_hour, cost.usd_at_most) == (2.0, 3.07)
    assert any("most expensive of ml.g4dn.xlarge, ml.g5.xlarge" in one for one in cost.remarks)
    assert any("30 minutes" in one for one in cost.remarks)


def test_the_estimate_of_a_spot_job_says_what_an_interruption_costs(aws_account: Cloud) -> None:
    def remark(**hyperparameters: str) -> list[str]:
        request = request_of(EnableManagedSpotTraining=True, HyperParameters=hyperparameters)
        return [one for one in estimate_cost(aws_in(), request).remarks if "interruption" in one]

    (said,) = remark()
    assert "one is saved every 12 s (CHECKPOINT_MINUTES)" in said
    assert "every 5 min 00 s" in remark(CHECKPOINT_MINUTES="5")[0]
    assert remark(CHECKPOINT_MINUTES="0") == []
    assert not any("interruption" in one for one in estimate_cost(aws_in(), request_of()).remarks)


def test_an_estimate_without_a_price_says_why(aws_account: Cloud) -> None:
    aws_account.set_prices({})
    request = request_of(ResourceConfig={"InstanceType": "ml.p5.48xlarge"})
    cost = estimate_cost(aws_in(), request)
    assert cost.usd_per_hour is None
    assert cost.usd_at_most is None
    assert "ml.p5.48xlarge" in cost.remarks[0]
    with pytest.raises(JobError, match="not known"):
        fit_budget(request, cost, max_cost=1000)


# The budget


def known(usd_per_hour: float, at_most: float) -> CostEstimate:
    return CostEstimate(usd_per_hour, at_most, "a list")


def test_a_budget_that_is_enough_changes_nothing() -> None:
    request = request_of(seconds=3600)
    assert fit_budget(request, known(2.0, 2.0), max_cost=2.0) == (request, known(2.0, 2.0), "")


def test_a_budget_shortens_the_job_and_says_so() -> None:
    request = request_of(seconds=12 * 3600)
    shorter, cost, said = fit_budget(request, known(2.0, 24.0), max_cost=3.0)
    assert shorter["StoppingCondition"]["MaxRuntimeInSeconds"] == 5400 - 120
    assert cost.usd_at_most == 3.0
    assert "1.47 hours instead of 12.00 hours" in said
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 12 * 3600


def test_a_budget_for_less_than_ten_minutes_is_refused_with_what_they_cost() -> None:
    with pytest.raises(JobError, match=r"ten minutes of the job cost 0\.40 USD"):
        fit_budget(request_of(), known(2.0, 2.0), max_cost=0.1)


@given(
    usd=st.floats(0.01, 500),
    budget=st.floats(0.01, 10_000),
    seconds=st.integers(1, 2_419_200),
    warm=st.integers(0, 3600),
)
def test_no_budget_is_ever_exceeded(usd: float, budget: float, seconds: int, warm: int) -> None:
    request = request_of(seconds=seconds, ResourceConfig={"KeepAlivePeriodInSeconds": warm})
    at_most = usd * (seconds + warm + 120) / 3600
    try:
        fitted, cost, _ = fit_budget(request, known(usd, at_most), max_cost=budget)
    except JobError:
        assert at_most > budget
        return
    longest = fitted["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert usd * (longest + warm + 120) / 3600 <= budget * (1 + 1e-9)
    assert cost.usd_at_most is not None
    assert cost.usd_at_most <= max(budget, at_most)
    assert longest <= seconds


# The table that comes along


def test_the_table_has_its_date_and_names_machines_that_there_are() -> None:
    text = importlib.resources.files("classifold.aws").joinpath("prices.json").read_text(encoding="utf-8")
    table = json.loads(text)
    assert date.fromisoformat(table["collected"])
    session = botocore.session.get_session()
    model = session.get_service_model("sagemaker").shape_for("TrainingInstanceType")
    regions = set(session.get_available_regions("sagemaker"))
    for named, prices in table["usd_per_hour"].items():
        assert set(named.split()) <= regions
        assert set(prices) <= set(model.enum)
        assert all(0.05 < usd < 100 for usd in prices.values())


def test_the_default_machine_has_a_price_in_the_default_region(aws_account: Cloud) -> None:
    aws_account.fail("GetProducts")
    config = build_config({})
    assert find_price(Aws(config), config.INSTANCE_TYPE, spot=False).usd_per_hour > 0


def test_a_list_price_is_found_without_any_connection():
    price = find_list_price("us-east-1", "ml.m5.xlarge")
    assert price is not None
    assert price.usd_per_hour == 0.23
    assert "list prices collected on" in price.source
    assert find_list_price("us-east-1", "ml.no.such") is None
    assert find_list_price("mars-north-1", "ml.m5.xlarge") is None
