"""The Resource Groups Tagging API finds ECR's repositories and SageMaker's resources too; moto's does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def mend_tagging(list_tagged: Callable[[str], Iterator[tuple[str, Any]]]) -> None:
    """Add what moto leaves out; `list_tagged` gives what SageMaker has in a region, with its kind."""
    from moto.core.resource_tagging import TaggedResource, make_tag_matcher, match_resource_type
    from moto.ecr.models import ecr_backends
    from moto.resourcegroupstaggingapi import models

    backend_class = models.ResourceGroupsTaggingAPIBackend
    generate = backend_class._get_resources_generator

    def generate_more(
        self: Any,
        tag_filters: Any = None,
        resource_type_filters: Any = None,
        resource_arn_list: Any = None,
    ) -> Iterator[Any]:
        yield from generate(self, tag_filters, resource_type_filters, resource_arn_list)
        ecr = ecr_backends[self.account_id][self.region_name]
        more = [
            TaggedResource(one.arn, ecr.tagger.get_tag_dict_for_resource(one.arn), "ecr:repository")
            for one in ecr.repositories.values()
        ]
        more += [
            TaggedResource(one.arn, one.tags, f"sagemaker:{kind}")
            for kind, one in list_tagged(self.region_name)
        ]
        fits = make_tag_matcher(tag_filters)
        for one in more:
            is_kind = match_resource_type(one.resource_type, resource_type_filters)
            if one.tags and is_kind and fits(one.tags) and one.arn in (resource_arn_list or [one.arn]):
                yield one

    setattr(backend_class, "_get_resources_generator", generate_more)  # noqa: B010
