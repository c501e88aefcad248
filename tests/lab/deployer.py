"""What brings an endpoint's configuration into service: the first, an update with its way back, the end."""

from __future__ import annotations

import secrets
import tarfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab import rights
from lab.endpoint import Endpoint, Fleet, Served
from lab.engine import PullError
from lab.machine import Behaviour
from lab.serving import Container, Plan, StartError, unpack_model
from lab.storage import JobLog, JobStorage, StorageError

LOG_GROUP = "/aws/sagemaker/Endpoints"
# "The model must download and the server must respond successfully to /ping within 3 minutes" where it is
# serverless; elsewhere 8 minutes, or what ContainerStartupHealthCheckTimeoutInSeconds says.
SERVERLESS_START_SECONDS = 180.0
START_SECONDS = 480.0


class FleetError(Exception):
    """The containers of a configuration do not serve; the message is FailureReason."""


@dataclass
class Deployer:
    """Starts and ends fleets of endpoints.

    Attributes:
        account: The account.
        behaviour: How containers run, and how long waits last.
        find_model: Gives a model's request, with its containers resolved, by name and region.
    """

    account: str
    behaviour: Behaviour
    find_model: Callable[[str, str], tuple[dict[str, Any], dict[str, Any]]]

    def start_fleet(self, endpoint: Endpoint, config: dict[str, Any]) -> Fleet:
        """Start every variant of a configuration and wait until it answers /ping.

        Raises:
            FleetError: One of them does not; all are ended again.
        """
        served: list[Served] = []
        try:
            for variant in config["ProductionVariants"]:
                self._take_capacity()
                served.append(self._start_variant(endpoint, variant))
        except FleetError:
            Fleet(config, served).stop()
            raise
        return Fleet(config, served)

    def _take_capacity(self) -> None:
        if self.behaviour.capacity_errors > 0:
            self.behaviour.capacity_errors -= 1
            raise FleetError(
                "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity "
                "error. Please retry using a different ML instance type."
            )

    def _start_variant(self, endpoint: Endpoint, variant: dict[str, Any]) -> Served:
        name = variant["VariantName"]
        model, container = self.find_model(variant["ModelName"], endpoint.region)
        role = rights.find_role(model["ExecutionRoleArn"], self.account)
        if role is None or not rights.trusts_service(role, account=self.account, job_arn=endpoint.arn):
            raise FleetError(
                f'The execution role ARN "{model["ExecutionRoleArn"]}" is invalid. Please ensure that the '
                'role exists and that its trust relationship policy allows the action "sts:AssumeRole" '
                'for the service principal "sagemaker.amazonaws.com".'
            )
        storage = JobStorage(self.account, role)
        group, machine = f"{LOG_GROUP}/{endpoint.name}", f"i-{secrets.token_hex(8)}"
        log = JobLog(self.account, endpoint.region, role, name, host=machine, group=group)
        running = Container(self._plan(model, container, variant, endpoint.region), log)
        try:
            unpack_model(storage, container, running.folder / "model")
            running.start(abandon=endpoint.abandon)
        except Exception as error:
            running.stop()
            raise FleetError(_explain(error, name, container)) from error
        count = int(variant.get("InitialInstanceCount", 0))
        weight = float(variant.get("InitialVariantWeight", 1.0))
        return Served(variant, model, running, storage, log, container.get("Image", ""), count, weight)

    def _plan(
        self, model: dict[str, Any], container: dict[str, Any], variant: dict[str, Any], region: str
    ) -> Plan:
        is_serverless = "ServerlessConfig" in variant
        allowed = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", START_SECONDS)
        longest = SERVERLESS_START_SECONDS if is_serverless else float(allowed)
        return Plan(
            hosting=self.behaviour.hosting,
            script=self.behaviour.serve_script,
            image=container.get("Image", ""),
            environment={"AWS_REGION": region, **container.get("Environment", {})},
            is_isolated=bool(model.get("EnableNetworkIsolation")),
            start_seconds=min(longest, self.behaviour.serve_start_seconds),
            stop_seconds=min(30.0, self.behaviour.stop_seconds),
        )

    # The three ways

    def create(self, endpoint: Endpoint, config: dict[str, Any]) -> None:
        """Bring a new endpoint into service; where that fails it stays as Failed, with the reason."""
        try:
            fleet = self.start_fleet(endpoint, config)
        except FleetError as error:
            endpoint.reason = str(error)
            endpoint.enter("Failed")
            return
        except Exception:
            endpoint.reason = f"the lab has a mistake: {traceback.format_exc()[-900:]}"
            endpoint.enter("Failed")
            return
        with endpoint.lock:
            endpoint.fleet = fleet
            endpoint.enter("InService")

    def update(self, endpoint: Endpoint, config: dict[str, Any], kept: frozenset[str]) -> None:
        """Put a new fleet in the place of the old one, which answers until the new one does.

        As "Blue/Green Deployments" has it, traffic moves once the new fleet is healthy. Where it is not,
        or an alarm of AutoRollbackConfiguration goes off while the new fleet bakes, the endpoint is
        RollingBack, then InService with its old configuration and a FailureReason.

        Args:
            endpoint: The endpoint.
            config: CreateEndpointConfig's request of the new configuration.
            kept: Which properties of the variants stay as they are, of those of the same names.
        """
        old = endpoint.fleet
        try:
            new = self.start_fleet(endpoint, config)
            _check_alarms(endpoint, new)
        except Exception as error:
            self._roll_back(endpoint, str(error), old)
            return
        if old is not None:
            _keep_properties(old, new, kept)
        with endpoint.lock:
            endpoint.fleet = new
        alarm = self._bake(endpoint)
        if alarm:
            said = f"One or more configured alarm(s) went into ALARM state during the deployment: [{alarm}]"
            self._roll_back(endpoint, said, old)
            new.stop()
            return
        with endpoint.lock:
            endpoint.config_name, endpoint.pending, endpoint.reason = config["EndpointConfigName"], "", ""
            endpoint.enter("InService")
        if old is not None:
            old.stop()

    def _roll_back(self, endpoint: Endpoint, reason: str, old: Fleet | None) -> None:
        with endpoint.lock:
            endpoint.reason, endpoint.pending, endpoint.fleet = reason, "", old
            endpoint.enter("RollingBack")
        endpoint.abandon.wait(self.behaviour.bake_seconds)
        endpoint.enter("InService")

    def _bake(self, endpoint: Endpoint) -> str:
        """Let the new fleet answer for a while; return the alarm that went off meanwhile, or nothing."""
        rules = (endpoint.deployment or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
        names = [one["AlarmName"] for one in rules]
        deadline = time.monotonic() + self.behaviour.bake_seconds
        while True:
            gone_off = self._find_alarm(names, endpoint.region)
            if gone_off or time.monotonic() > deadline or endpoint.abandon.is_set():
                return gone_off
            time.sleep(0.02)

    def _find_alarm(self, names: Sequence[str], region: str) -> str:
        from moto.cloudwatch.models import cloudwatch_backends

        alarms = cloudwatch_backends[self.account][region].alarms
        return next((one for one in names if one in alarms and alarms[one].state_value == "ALARM"), "")

    def delete(self, endpoint: Endpoint, forget: Callable[[], None]) -> None:
        """End an endpoint's containers, then forget it."""
        fleet = endpoint.fleet
        endpoint.abandon.wait(self.behaviour.bake_seconds)
        if fleet is not None:
            fleet.stop()
        forget()


def _keep_properties(old: Fleet, new: Fleet, kept: frozenset[str]) -> None:
    before = {one.name: one for one in old.served}
    for one in new.served:
        if one.name in before and "DesiredWeight" in kept:
            one.weight = before[one.name].weight
        if one.name in before and "DesiredInstanceCount" in kept and not one.is_serverless:
            one.count = before[one.name].count
    if "DataCaptureConfig" in kept:
        captured = {name: old.config[name] for name in ("DataCaptureConfig",) if name in old.config}
        new.config = {**{name: one for name, one in new.config.items() if name not in kept}, **captured}


def _check_alarms(endpoint: Endpoint, new: Fleet) -> None:
    """Refuse alarms that the role may not look at: "Auto-Rollback Configuration and Monitoring".

    Raises:
        FleetError: It may not; the new containers are ended.
    """
    rules = (endpoint.deployment or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    for served in new.served:
        role = served.storage.role
        for rule in rules:
            account = str(role.arn).split(":")[4]
            arn = f"arn:aws:cloudwatch:{endpoint.region}:{account}:alarm:{rule['AlarmName']}"
            if not rights.allows(role, "cloudwatch:DescribeAlarms", arn):
                new.stop()
                raise FleetError(
                    f"The execution role {role.arn} lacks the permission cloudwatch:DescribeAlarms on {arn}."
                )


def _explain(error: Exception, variant: str, container: dict[str, Any]) -> str:
    """Return FailureReason in the service's words."""
    if isinstance(error, StartError):
        return (
            f"The primary container for production variant {variant} {error}. "
            "Please check CloudWatch logs for this endpoint."
        )
    if isinstance(error, StorageError | KeyError | tarfile.TarError):
        return (
            f"Failed to download model data for variant {variant} from URL: "
            f'"{container.get("ModelDataUrl", "")}". Please ensure that there is an object located at the '
            f"URL and that the role passed to CreateModel has permissions to download the object. ({error})"
        )
    if isinstance(error, PullError):
        return f"The image for production variant {variant} cannot be pulled: {error}"
    return f"the lab has a mistake: {error!r}: {traceback.format_exc()[-700:]}"
