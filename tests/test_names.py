from __future__ import annotations

import re
from datetime import datetime

from classifold import names


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
