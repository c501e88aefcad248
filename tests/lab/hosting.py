"""The stand-in for SageMaker's hosting: models, endpoint configurations and endpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from lab.deployer import Deployer
from lab.endpoint import Endpoint, Served
from lab.machine import Behaviour
from lab.model_rules import check_config, check_model
from lab.quotas import SERVERLESS, Quotas
from lab.resources import Resource, Shelf
from lab.validation import InvalidError

OPERATIONS = (
    *(f"{verb}Model" for verb in ("Create", "Describe", "Delete")),
    *(f"{verb}EndpointConfig" for verb in ("Create", "Describe", "Delete")),
    *(f"{verb}Endpoint" for verb in ("Create", "Update", "Describe", "Delete")),
    *("ListModels", "ListEndpointConfigs", "ListEndpoints", "UpdateEndpointWeightsAndCapacities"),
)


class Hosting:
    """What one account hosts.

    Attributes:
        models: Of all regions.
        configs: The endpoint configurations.
        endpoints: The endpoints.
    """

    def __init__(
        self,
        account: str,
        quotas: Quotas,
        *,
        behaviour: Behaviour,
        find_package: Callable[[str, str], dict[str, Any]],
    ) -> None:
        self.account = account
        self.quotas = quotas
        self.find_package = find_package
        self.models = Shelf(account, "model", "model", Resource)
        self.configs = Shelf(account, "endpoint-config", "endpoint configuration", Resource)
        self.endpoints = Shelf(account, "endpoint", "endpoint", Endpoint)
        self.behaviour = behaviour
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def reset(self, behaviour: Behaviour) -> None:
        """End every endpoint and forget all."""
        for endpoint in self.endpoints:
            endpoint.abandon.set()
        for thread in self._threads:
            thread.join(timeout=120)
        for endpoint in self.endpoints:
            if endpoint.fleet is not None:
                endpoint.fleet.stop()
        for shelf in (self.models, self.configs, self.endpoints):
            shelf.clear()
        self._threads.clear()
        self.behaviour = behaviour

    def list_resources(self) -> Iterator[tuple[str, Resource]]:
        """Yield every resource with its kind."""
        for shelf in (self.models, self.configs, self.endpoints):
            for one in shelf:
                yield shelf.kind, one

    def find_model(self, name: str, region: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a model's request and its container, that of a model package in the package's place.

        Raises:
            InvalidError: There is no such model.
        """
        request = self.models.find(name, region).request
        return request, self._resolve(request, region)[0]

    def find_volume_key(self, config_name: str, region: str) -> str:
        """Return the key of an endpoint configuration; empty where it has none, or is not there."""
        config = self.configs.get(config_name, region)
        return str(config.request.get("KmsKeyId", "")) if config else ""

    def _resolve(self, request: dict[str, Any], region: str) -> list[dict[str, Any]]:
        if ("PrimaryContainer" in request) == ("Containers" in request):
            raise InvalidError("Exactly one of PrimaryContainer and Containers must be provided.")
        given = request.get("Containers") or [request["PrimaryContainer"]]
        found = []
        for one in given:
            package = self.find_package(one["ModelPackageName"], region) if "ModelPackageName" in one else {}
            variables = {**package.get("Environment", {}), **one.get("Environment", {})}
            found.append({**package, **one, "Environment": variables})
        return found

    @property
    def _deployer(self) -> Deployer:
        return Deployer(self.account, self.behaviour, self.find_model)

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    # Models

    def create_model(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateModel."""
        name = asked["ModelName"]
        with self._lock:
            self.models.check_new(name, region)
            needs_image = self.behaviour.hosting == "docker"
            arn = self.models.arn(name, region)
            containers = self._resolve(asked, region)
            check_model(
                asked, containers, account=self.account, region=region, arn=arn, needs_image=needs_image
            )
            return {"ModelArn": self.models.add(name, region, asked).arn}

    def describe_model(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeModel."""
        model = self.models.find(asked["ModelName"], region)
        echoed = {name: value for name, value in model.request.items() if name != "Tags"}
        echoed.setdefault("EnableNetworkIsolation", False)
        if "PrimaryContainer" in echoed:
            echoed["PrimaryContainer"] = {"Mode": "SingleModel", **echoed["PrimaryContainer"]}
        return {**echoed, "ModelArn": model.arn, "CreationTime": model.created}

    def list_models(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListModels."""
        page, rest = self.models.list(asked, region)
        lines = [{"ModelName": one.name, "ModelArn": one.arn, "CreationTime": one.created} for one in page]
        return {"Models": lines, **rest}

    def delete_model(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DeleteModel; what serves goes on serving."""
        self.models.remove(asked["ModelName"], region)
        return {}

    # Endpoint configurations

    def create_endpoint_config(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateEndpointConfig."""
        with self._lock:
            self.configs.check_new(asked["EndpointConfigName"], region)
            check_config(asked, find_model=lambda name: self.models.find(name, region).request)
            made = self.configs.add(asked["EndpointConfigName"], region, asked)
        return {"EndpointConfigArn": made.arn}

    def describe_endpoint_config(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeEndpointConfig."""
        config = self.configs.find(asked["EndpointConfigName"], region)
        echoed = {name: value for name, value in config.request.items() if name != "Tags"}
        echoed["ProductionVariants"] = [
            {"InitialVariantWeight": 1.0, **one} for one in echoed["ProductionVariants"]
        ]
        return {**echoed, "EndpointConfigArn": config.arn, "CreationTime": config.created}

    def list_endpoint_configs(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListEndpointConfigs."""
        page, rest = self.configs.list(asked, region)
        lines = [
            {"EndpointConfigName": one.name, "EndpointConfigArn": one.arn, "CreationTime": one.created}
            for one in page
        ]
        return {"EndpointConfigs": lines, **rest}

    def delete_endpoint_config(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DeleteEndpointConfig.

        One in use can be deleted, and should not: the endpoint can then not be updated.
        """
        self.configs.remove(asked["EndpointConfigName"], region)
        return {}

    # Endpoints

    def create_endpoint(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateEndpoint."""
        with self._lock:
            self.endpoints.check_new(asked["EndpointName"], region)
            config = self.configs.find(asked["EndpointConfigName"], region).request
            self._check_models(config, region)
            self._check_quotas(config)
            endpoint = self.endpoints.add(asked["EndpointName"], region, asked)
            endpoint.config_name = asked["EndpointConfigName"]
            endpoint.pending = ""
            endpoint.deployment = asked.get("DeploymentConfig")
            endpoint.enter("Creating")
        self._begin(self._deployer.create, endpoint, config)
        return {"EndpointArn": endpoint.arn}

    def _check_models(self, config: dict[str, Any], region: str) -> None:
        for variant in config["ProductionVariants"]:
            self.models.find(variant["ModelName"], region)

    def _check_quotas(self, config: dict[str, Any]) -> None:
        """Refuse more machines than the account may use; an update's come beside those that answer."""
        wanted = _count_machines([config])
        in_use = _count_machines(
            self.configs.find(name, one.region).request
            for one in self.endpoints
            if one.status != "Failed"
            for name in (one.config_name, one.pending)
            if name and self.configs.get(name, one.region)
        )
        for name, count in wanted.items():
            self.quotas.check(name, used=in_use.get(name, 0), wanted=count)

    def update_endpoint(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer UpdateEndpoint."""
        with self._lock:
            endpoint = self._find_settled(asked["EndpointName"], region)
            if endpoint.status == "Failed":
                raise InvalidError(f'Cannot update endpoint "{endpoint.arn}" in status Failed.')
            config = self.configs.find(asked["EndpointConfigName"], region).request
            # The service looks the present one up as well: it must not have been deleted.
            self.configs.find(endpoint.config_name, region)
            self._check_models(config, region)
            self._check_quotas(config)
            kept = _find_kept(asked)
            if not asked.get("RetainDeploymentConfig"):
                endpoint.deployment = asked.get("DeploymentConfig")
            endpoint.pending, endpoint.reason = asked["EndpointConfigName"], ""
            endpoint.enter("Updating")
        self._begin(self._deployer.update, endpoint, config, kept)
        return {"EndpointArn": endpoint.arn}

    def _find_settled(self, name: str, region: str) -> Endpoint:
        endpoint = self.endpoints.find(name, region)
        if endpoint.status not in ("InService", "Failed"):
            raise InvalidError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def update_endpoint_weights_and_capacities(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer UpdateEndpointWeightsAndCapacities."""
        with self._lock:
            endpoint = self._find_settled(asked["EndpointName"], region)
            served = {one.name: one for one in endpoint.fleet.served} if endpoint.fleet else {}
            for wanted in asked["DesiredWeightsAndCapacities"]:
                if wanted["VariantName"] not in served:
                    raise InvalidError(f"There is no variant {wanted['VariantName']} in this endpoint.")
                _resize(served[wanted["VariantName"]], wanted)
            endpoint.enter("Updating")
        self._begin(self._settle, endpoint, list(served.values()))
        return {"EndpointArn": endpoint.arn}

    def _settle(self, endpoint: Endpoint, served: list[Served]) -> None:
        endpoint.abandon.wait(self.behaviour.bake_seconds)
        for one in served:
            one.count, one.desired = one.count if one.desired is None else one.desired, None
        endpoint.enter("InService")

    def describe_endpoint(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeEndpoint."""
        return self.endpoints.find(asked["EndpointName"], region).describe()

    def list_endpoints(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListEndpoints."""
        page, rest = self.endpoints.list(asked, region)
        return {"Endpoints": [one.summarise() for one in page], **rest}

    def delete_endpoint(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DeleteEndpoint; one that is being made or updated cannot be deleted."""
        with self._lock:
            endpoint = self._find_settled(asked["EndpointName"], region)
            endpoint.enter("Deleting")

        def forget() -> None:
            self.endpoints.remove(endpoint.name, region)

        self._begin(self._deployer.delete, endpoint, forget)
        return {}


def _find_kept(asked: dict[str, Any]) -> frozenset[str]:
    """Return which of the variants' properties an update keeps as they are: numbers and weights.

    Raises:
        InvalidError: Something is excluded where nothing is kept.
    """
    excluded = [one["VariantPropertyType"] for one in asked.get("ExcludeRetainedVariantProperties", [])]
    if not asked.get("RetainAllVariantProperties"):
        if excluded:
            raise InvalidError(
                "ExcludeRetainedVariantProperties can only be specified when RetainAllVariantProperties is "
                "true."
            )
        return frozenset()
    return frozenset({"DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig"} - set(excluded))


def _resize(served: Served, wanted: dict[str, Any]) -> None:
    served.weight = float(wanted.get("DesiredWeight", served.weight))
    if served.is_serverless and "DesiredInstanceCount" in wanted:
        raise InvalidError("DesiredInstanceCount is not supported for serverless variants.")
    served.desired = int(wanted.get("DesiredInstanceCount", served.count))


def _count_machines(configs: Any) -> dict[str, int]:
    """Return how much of each quota configurations use."""
    found: dict[str, int] = {}
    for config in configs:
        for variant in config["ProductionVariants"]:
            if "ServerlessConfig" in variant:
                name, count = SERVERLESS, variant["ServerlessConfig"]["MaxConcurrency"]
            else:
                name = f"{variant['InstanceType']} for endpoint usage"
                count = variant["InitialInstanceCount"]
            found[name] = found.get(name, 0) + int(count)
    return found
