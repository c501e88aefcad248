"""The stand-in for SageMaker's model registry: groups of model packages, their versions and approval."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.registry import Registry, parse_reference
from lab.resources import Resource, Shelf
from lab.storage import split_uri
from lab.validation import InvalidError

OPERATIONS = (
    *(f"{verb}ModelPackageGroup" for verb in ("Create", "Describe", "Delete")),
    *(f"{verb}ModelPackage" for verb in ("Create", "Describe", "Update", "Delete")),
    *("ListModelPackageGroups", "ListModelPackages"),
)
# What of CreateModelPackage's request UpdateModelPackage may replace.
_CHANGEABLE = (
    "ModelApprovalStatus",
    "ApprovalDescription",
    "InferenceSpecification",
    "SourceUri",
    "ModelCard",
)


@dataclass
class Package(Resource):
    """A model package: a version of a group, or one of its own name.

    Attributes:
        group: Its group's name; empty for one without.
        version: Its number in the group.
    """

    group: str = ""
    version: int = 0

    def describe(self) -> dict[str, Any]:
        """Return what DescribeModelPackage answers."""
        echoed = {name: value for name, value in self.request.items() if name not in ("Tags", "ClientToken")}
        answer = {
            **echoed,
            "ModelPackageArn": self.arn,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        }
        if self.group:
            answer |= {"ModelPackageGroupName": self.group, "ModelPackageVersion": self.version}
        return answer

    def summarise(self) -> dict[str, Any]:
        """Return its line in ListModelPackages."""
        whole = self.describe()
        names = (
            *("ModelPackageName", "ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn"),
            *("ModelPackageDescription", "CreationTime", "ModelPackageStatus", "ModelApprovalStatus"),
        )
        return {name: whole[name] for name in names if name in whole}


class ModelRegistry:
    """The model packages of one account.

    Attributes:
        groups: Of packages.
        packages: Their versions, and those without a group.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.groups = Shelf(account, "model-package-group", "model package group", Resource)
        self.packages = Shelf(account, "model-package", "model package", Package)
        self.needs_image = False
        self._last: dict[str, int] = {}
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget all."""
        for shelf in (self.groups, self.packages):
            shelf.clear()
        self._last.clear()

    def list_resources(self) -> Iterator[tuple[str, Resource]]:
        """Yield what can have tags, with its kind: a version has those of its group."""
        for group in self.groups:
            yield self.groups.kind, group
        for package in self.packages:
            if not package.group:
                yield self.packages.kind, package

    def find_container(self, name: str, region: str) -> dict[str, Any]:
        """Return the container of a package for CreateModel.

        Raises:
            InvalidError: There is no such package, or it is not approved.
        """
        package = self._find(name, region)
        if package.group and package.request["ModelApprovalStatus"] != "Approved":
            raise InvalidError(
                f"The model package {package.arn} is {package.request['ModelApprovalStatus']}: only an "
                "approved version can be deployed."
            )
        names = ("Image", "ModelDataUrl", "ModelDataSource", "Environment")
        (container,) = package.request["InferenceSpecification"]["Containers"]
        return {one: container[one] for one in names if one in container}

    def _find(self, name: str, region: str) -> Package:
        """Return the package of an ARN or a name."""
        for package in self.packages:
            if package.region == region and name in (package.arn, package.name):
                return package
        arn = name if name.startswith("arn:") else self.packages.arn(name, region)
        raise InvalidError(f"ModelPackage {arn} does not exist.")

    def _find_group(self, name: str, region: str) -> Resource:
        for group in self.groups:
            if group.region == region and name in (group.arn, group.name):
                return group
        arn = name if name.startswith("arn:") else self.groups.arn(name, region)
        raise InvalidError(f"ModelPackageGroup {arn} does not exist.")

    # Groups

    def create_model_package_group(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateModelPackageGroup."""
        name = asked["ModelPackageGroupName"]
        arn = self.groups.arn(name, region)
        if any(one.arn == arn for one in self.groups):
            raise InvalidError(f"Model Package Group already exists: {arn}")
        return {"ModelPackageGroupArn": self.groups.add(name, region, asked).arn}

    def describe_model_package_group(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeModelPackageGroup."""
        group = self._find_group(asked["ModelPackageGroupName"], region)
        return {**_summarise_group(group), "CreatedBy": {}}

    def list_model_package_groups(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListModelPackageGroups."""
        page, rest = self.groups.list(asked, region)
        return {"ModelPackageGroupSummaryList": [_summarise_group(one) for one in page], **rest}

    def delete_model_package_group(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DeleteModelPackageGroup; one that holds packages cannot be deleted."""
        group = self._find_group(asked["ModelPackageGroupName"], region)
        if any(one.group == group.name and one.region == region for one in self.packages):
            raise InvalidError(
                f"Model Package Group {group.arn} cannot be deleted: it still holds model packages.",
                code="ConflictException",
            )
        self.groups.remove(group.name, region)
        return {}

    # Packages

    def create_model_package(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateModelPackage."""
        if ("ModelPackageName" in asked) == ("ModelPackageGroupName" in asked):
            raise InvalidError("Exactly one of ModelPackageName and ModelPackageGroupName must be provided.")
        if "InferenceSpecification" not in asked:
            raise InvalidError("the lab knows packages with an InferenceSpecification only", code="LabLimit")
        specification = asked["InferenceSpecification"]
        if len(specification["Containers"]) != 1:
            raise InvalidError("the lab knows packages of one container only", code="LabLimit")
        if "ModelPackageGroupName" in asked:
            self._find_group(asked["ModelPackageGroupName"], region)
        containers = [self._check_container(one, region) for one in specification["Containers"]]
        request = {**asked, "InferenceSpecification": {**specification, "Containers": containers}}
        with self._lock:
            if "ModelPackageName" in asked:
                return {"ModelPackageArn": self.packages.add(asked["ModelPackageName"], region, request).arn}
            return {"ModelPackageArn": self._add_version(request, region).arn}

    def _add_version(self, request: dict[str, Any], region: str) -> Package:
        group = self._find_group(request["ModelPackageGroupName"], region)
        if request.get("Tags"):
            # "Your model package … uses the tags associated with the model group. In this case, you cannot
            # supply a tag argument": CreateModelPackage.
            raise InvalidError("Tags cannot be specified for a model package of a group.")
        # A number is never used twice.
        number = self._last[group.arn] = self._last.get(group.arn, 0) + 1
        request = {"ModelApprovalStatus": "PendingManualApproval", **request}
        package = self.packages.add(f"{group.name}/{number}", region, request)
        package.group, package.version = group.name, number
        return package

    def _check_container(self, container: dict[str, Any], region: str) -> dict[str, Any]:
        """Refuse an image that is not in ECR, and data that is not there; return it with its digest."""
        from moto.s3.models import s3_backends

        image = parse_reference(container.get("Image", ""))
        if image is None:
            raise InvalidError(f"Invalid image {container.get('Image')}: it must stand in Amazon ECR.")
        if self.needs_image:
            registry = Registry(image.account, image.region)
            if registry.read_manifest(image.repository, image.digest or image.tag or "latest") is None:
                raise InvalidError(f"Cannot find the image {container['Image']}.")
        uri = container.get("ModelDataUrl")
        if uri:
            bucket, key = split_uri(uri)
            found = s3_backends[self.account]["aws"].buckets.get(bucket)
            if found is None or found.region_name != region or key not in found.keys:
                raise InvalidError(f"Could not find model data at {uri} in the region {region}.")
        return {**container, **({"ImageDigest": image.digest} if image.digest else {})}

    def describe_model_package(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeModelPackage."""
        return self._find(asked["ModelPackageName"], region).describe()

    def update_model_package(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer UpdateModelPackage: the approval, and what describes the model."""
        package = self._find(asked["ModelPackageArn"], region)
        changed = {name: value for name, value in asked.items() if name in _CHANGEABLE}
        properties = {
            **package.request.get("CustomerMetadataProperties", {}),
            **asked.get("CustomerMetadataProperties", {}),
        }
        for name in asked.get("CustomerMetadataPropertiesToRemove", []):
            properties.pop(name, None)
        package.request = {**package.request, **changed}
        if properties:
            package.request["CustomerMetadataProperties"] = properties
        package.modified = time.time()
        return {"ModelPackageArn": package.arn}

    def list_model_packages(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListModelPackages: those of a group, or those without one."""
        group = asked.get("ModelPackageGroupName", "")
        if group:
            group = self._find_group(group, region).name
        kind = asked.get("ModelPackageType", "Versioned" if group else "Unversioned")
        chosen = Shelf(self.account, "model-package", "model package", Package)
        for one in self.packages:
            is_kind = kind == "Both" or (kind == "Versioned") == bool(one.group)
            approval = one.request.get("ModelApprovalStatus")
            is_approved = asked.get("ModelApprovalStatus", approval) == approval
            if is_kind and is_approved and group in ("", one.group):
                chosen.put(one)
        page, rest = chosen.list(asked, region)
        return {"ModelPackageSummaryList": [one.summarise() for one in page], **rest}

    def delete_model_package(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DeleteModelPackage."""
        self.packages.remove(self._find(asked["ModelPackageName"], region).name, region)
        return {}


def _summarise_group(group: Resource) -> dict[str, Any]:
    described = group.request.get("ModelPackageGroupDescription")
    return {
        "ModelPackageGroupName": group.name,
        "ModelPackageGroupArn": group.arn,
        "CreationTime": group.created,
        "ModelPackageGroupStatus": "Completed",
        **({"ModelPackageGroupDescription": described} if described else {}),
    }
