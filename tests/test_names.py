from __future__ import annotations

import re
from datetime import datetime

from hypothesis import example, given
from hypothesis import strategies as st

from classifold import names
from classifold.errors import SettingsError
from classifold.settings.loader import build_config

PLACE = {"account": "123456789012", "region": "eu-west-1"}
projects = st.from_regex(r"[a-z0-9]{1,3}([.-][a-z0-9]{1,3}){0,3}", fullmatch=True)


def test_a_job_of_the_longest_algorithm_name_fits_sagemakers_limit() -> None:
    name = names.job_name("a" * names.ALGORITHM_NAME_LIMIT, datetime(2026, 12, 31, 23, 59, 58))
    assert len(name) == 63
    # The pattern is SageMaker's own, of TrainingJobName.
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert name.endswith("-2026-12-31-23-59-58")


def test_the_algorithm_name_has_43_characters() -> None:
    assert names.ALGORITHM_NAME_LIMIT == 43


def test_the_buckets_are_the_projects_with_data_and_output() -> None:
    assert names.data_bucket("flowers") == "flowers.data"
    assert names.output_bucket("flowers") == "flowers.output"


def test_no_artefact_is_named_twice() -> None:
    assert len(set(names.ARTEFACTS)) == len(names.ARTEFACTS)


def test_every_set_is_known_under_its_own_name_and_no_name_means_two_sets() -> None:
    assert tuple(names.SET_ALIASES) == names.SETS
    aliases = [alias for one, others in names.SET_ALIASES.items() for alias in {one, *others}]
    assert len(aliases) == len(set(aliases))
    assert all(one in names.SET_ALIASES[one] for one in names.SETS)


def names_on_aws(project: str) -> dict[str, str]:
    """Return every name that a project has on AWS, by the kind of thing it names."""
    pairs = [
        (names.data_bucket(project), "data"),
        (names.output_bucket(project), "output"),
    ]
    buckets = {f"global {kind}": name for name, kind in pairs}
    regional = {f"regional {kind}": names.regional_bucket(name, **PLACE) for name, kind in pairs}
    return {
        **buckets,
        **regional,
        "role": names.role(project),
        "repository": names.repository(project),
        "boundary": names.boundary(project),
    }


@given(projects, projects)
@example("shop.flowers", "shop-flowers")
@example("shop", "shop.data")
@example("shop-data", "shop.data")
def test_two_projects_share_no_name_on_aws(one: str, other: str) -> None:
    if one == other:
        return
    first, second = names_on_aws(one), names_on_aws(other)
    buckets = [{name for kind, name in all_.items() if " " in kind} for all_ in (first, second)]
    assert not buckets[0] & buckets[1]
    assert all(first[kind] != second[kind] for kind in ("role", "repository", "boundary"))


@given(projects)
def test_every_name_that_the_settings_let_pass_is_one_that_aws_takes(project: str) -> None:
    values = {"PROJECT_NAME": project, "BUCKET_NAMESPACE": "account-regional"}
    try:
        build_config(values)
    except SettingsError:
        return
    found = names_on_aws(project)
    for kind in ("regional data", "regional output", "global data", "global output"):
        assert names.BUCKET_NAME_PATTERN.fullmatch(found[kind])
        assert not found[kind].startswith(("xn--", "sthree-", "amzn-s3-demo-"))
        assert not found[kind].endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"))
    assert "." not in found["regional data"]
    assert re.fullmatch(r"[\w+=,.@-]{1,64}", found["role"])
    assert re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", found["repository"])


def test_a_project_without_a_dot_keeps_its_bucket_names() -> None:
    name = names.regional_bucket(names.data_bucket("shop-flowers"), **PLACE)
    assert name == "shop-flowers-data-123456789012-eu-west-1-an"
    dotted = names.regional_bucket(names.data_bucket("shop.flowers"), **PLACE)
    assert dotted == "shop--flowers-data-123456789012-eu-west-1-an"
