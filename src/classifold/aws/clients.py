"""The connection to AWS: one session with its region, account, clients, bucket names, key and tags."""

from __future__ import annotations

import difflib
import functools
import re
import threading
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config as ClientConfig
from botocore.exceptions import ClientError, EndpointConnectionError, UnknownRegionError

import classifold
from classifold import names
from classifold.aws.answer_parser import AnswerParserFactory
from classifold.aws.no_answer import profile_errors
from classifold.aws.refusals import (
    aws_errors,
    is_passing,
    note_origin,
)
from classifold.errors import AwsError, Fault, name_failure
from classifold.settings.config import Config

# Attempts of a request in total: few for a command's first request, so that a missing network is reported
# soon; more for the others, to outlast a busy API. AWS_MAX_ATTEMPTS and the profile's max_attempts take
# precedence.
_FIRST_ATTEMPTS, _ATTEMPTS = 3, 8
_CONNECT_SECONDS = 10
_KEY_ARN = re.compile(r"arn:[a-z-]+:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:key/.+")


class Aws:
    """A user's connection to one AWS account, in the project's region. Threads may share it.

    Credentials, profiles, SSO, proxies and AWS_ENDPOINT_URL are read by boto3; the region is a setting.

    Args:
        config: The settings.

    Attributes:
        config: The settings.
        region: The project's region, PROJECT_REGION.
        session: Boto3's session, which is not safe for threads: use `client` instead.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.region = config.PROJECT_REGION
        with aws_errors("sign in"), profile_errors("sign in"):
            self._core = botocore.session.get_session()
            self._core.register_component("response_parser_factory", AnswerParserFactory())
            self.session = boto3.session.Session(botocore_session=self._core, region_name=self.region)
        # Re-entrant: making S3's client asks for the account, which makes STS's client.
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, int, str], Any] = {}
        self._identity: dict[str, str] | None = None
        self._made: dict[str, bool] = {}

    @property
    def identity(self) -> dict[str, str]:
        """The caller's `Account`, `Arn` and `UserId`; requested from AWS once.

        Raises:
            AwsError: There are no credentials, or AWS refuses them.
        """
        with self._lock:
            if self._identity is None:
                self._identity = self._ask_identity()
            return self._identity

    def _ask_identity(self) -> dict[str, str]:
        doing = "find out whose account this is"
        try:
            with aws_errors(doing), profile_errors(doing):
                answer = self.client("sts").get_caller_identity()
                return {name: str(answer[name]) for name in ("Account", "Arn", "UserId")}
        except AwsError as error:
            # An unknown host may mean a misspelt region as well as a missing network.
            doubt = isinstance(error.__cause__, EndpointConnectionError) and self.doubt_region()
            if not doubt:
                raise
            raise AwsError(Fault(name_failure(doing), error.faults[0].what, hint=doubt)) from error.__cause__

    @property
    def account(self) -> str:
        """Number of the account, 12 digits."""
        return self.identity["Account"]

    @functools.cached_property
    def partition(self) -> str:
        """The first word of every ARN: aws, aws-cn or aws-us-gov.

        Raises:
            AwsError: The region is not in any partition.
        """
        try:
            return str(self.session.get_partition_for_region(self.region))
        except UnknownRegionError as error:
            fault = Fault("setting PROJECT_REGION", "no such region", self.doubt_region(), got=self.region)
            raise AwsError(fault) from error

    def client(self, service: str, *, connections: int = 10, region: str | None = None) -> Any:
        """Return boto3's client of a service, in the project's region, with patient retries.

        S3's client sends the expected owner with every request, also those of transfers, paginators and
        waiters: S3 then refuses a bucket that belongs to another account.

        Args:
            service: Boto3's name of the service.
            connections: Maximum number of simultaneous requests.
            region: Region of the client; None for the project's.

        Raises:
            AwsError: There are no credentials, or AWS refuses them.
        """
        key = service, connections, region or self.region
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make_client(*key)
            return self._clients[key]

    def _make_client(self, service: str, connections: int, region: str) -> Any:
        # The account is requested first, so that missing credentials are reported once, before anything else.
        account = "" if service == "sts" else self.account
        doing = f"reach {service}"
        with aws_errors(doing), profile_errors(doing):
            settings = self._build_settings(service, connections, region)
            client = self.session.client(service, config=settings)
        note_origin(client)
        if service == "s3":
            expect_owner = functools.partial(_expect_owner, account=account)
            client.meta.events.register("provide-client-params.s3", expect_owner)
        return client

    def has_credentials(self) -> bool:
        """Tell whether this machine has credentials, whether AWS accepts them or not."""
        with aws_errors("sign in"), profile_errors("sign in"):
            return self.session.get_credentials() is not None

    def open_any_bucket(self, *, connections: int, is_signed: bool) -> Any:
        """Return S3's client for reading buckets of any account; it sends no expected owner.

        Args:
            connections: Maximum number of simultaneous requests.
            is_signed: False to send no credentials, which public buckets accept.

        Raises:
            AwsError: The AWS settings of this machine cannot be read.
        """
        doing = "reach s3"
        with aws_errors(doing), profile_errors(doing):
            settings = self._build_settings("s3", connections, self.region)
            if not is_signed:
                settings = settings.merge(ClientConfig(signature_version=UNSIGNED))
            client = self.session.client("s3", config=settings)
        note_origin(client)
        return client

    def _build_settings(self, service: str, connections: int, region: str) -> ClientConfig:
        return ClientConfig(
            region_name=region,
            retries=self._choose_retries(service),
            max_pool_connections=connections,
            user_agent_extra=f"classifold/{classifold.__version__}",
            connect_timeout=_CONNECT_SECONDS,
            # Some routers drop silent connections, as when a busy service answers slowly.
            tcp_keepalive=True,
        )

    def _choose_retries(self, service: str) -> dict[str, Any]:
        attempts = self._core.get_config_variable("max_attempts")
        mode = self._core.get_config_variable("retry_mode")
        ours = _FIRST_ATTEMPTS if service == "sts" else _ATTEMPTS
        # Older releases of boto3 default to "legacy", which retries fewer kinds of errors.
        known = mode if mode in ("standard", "adaptive") else "standard"
        return {"mode": known, "total_max_attempts": attempts or ours}

    def doubt_region(self) -> str:
        """Return a remark if boto3 does not know the region; empty if it does.

        A region may be newer than this boto3, or belong to a private partition, so this refuses nothing.
        """
        partitions = self.session.get_available_partitions()
        if any(self.region in self.session.get_available_regions("sagemaker", each) for each in partitions):
            return ""
        known = self.session.get_available_regions("sagemaker", self._guess_partition())
        near = difflib.get_close_matches(self.region, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"boto3 knows no region {self.region} with SageMaker: check PROJECT_REGION{meant}"

    def _guess_partition(self) -> str:
        partitions = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
        found = [name for start, name in partitions.items() if self.region.startswith(f"{start}-")]
        return found[0] if found else "aws"

    # Where this project's things are

    @property
    def data_bucket(self) -> str:
        """The bucket of the pictures."""
        return self.config.DATA_BUCKET or self._bucket(names.data_bucket(self.config.PROJECT_NAME))

    @property
    def output_bucket(self) -> str:
        """The bucket of the results."""
        return self.config.OUTPUT_BUCKET or self._bucket(names.output_bucket(self.config.PROJECT_NAME))

    def list_bucket_names(self, account: str = "") -> tuple[str, str]:
        """Return the names of the buckets of the pictures and of the results.

        Args:
            account: The account they would be in, without asking AWS anything; empty: the user's own.
        """
        if not account:
            return self.data_bucket, self.output_bucket
        config = self.config
        data, output = names.data_bucket(config.PROJECT_NAME), names.output_bucket(config.PROJECT_NAME)
        if config.BUCKET_NAMESPACE != "global":
            data, output = (
                names.regional_bucket(one, account=account, region=self.region) for one in (data, output)
            )
        return config.DATA_BUCKET or data, config.OUTPUT_BUCKET or output

    def _bucket(self, name: str) -> str:
        if self.config.BUCKET_NAMESPACE == "global":
            return name
        own = names.regional_bucket(name, account=self.account, region=self.region)
        former = names.former_regional_bucket(name, account=self.account, region=self.region)
        return former if former != own and self._has_made(former) else own

    def _has_made(self, bucket: str) -> bool:
        """Tell whether a bucket of this name exists and has the project's tag; requested once per bucket."""
        with self._lock:
            if bucket not in self._made:
                try:
                    with aws_errors(f"read the tags of bucket {bucket}"):
                        found = self.client("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]
                except AwsError as error:
                    # Missing, without tags, or not permitted: this project did not make it.
                    if not isinstance(error.__cause__, ClientError) or is_passing(error.__cause__):
                        raise
                    found = []
                tag = {"Key": names.PROJECT_TAG, "Value": self.config.PROJECT_NAME}
                self._made[bucket] = tag in found
            return self._made[bucket]

    @functools.cached_property
    def kms_key(self) -> str:
        """ARN of the key, also if KMS_KEY names it by alias or ID; empty for AWS's own key.

        Raises:
            AwsError: There is no such key in the project's region, or a permission is missing.
        """
        setting = self.config.KMS_KEY
        arn = _KEY_ARN.fullmatch(setting)
        if arn and arn["region"] != self.region:
            what = f"the key is in {arn['region']}, the project in {self.region}"
            hint = f"name a key in {self.region}: S3 and SageMaker accept none of another region"
            raise AwsError(Fault("setting KMS_KEY", what, hint=hint))
        if arn or not setting:
            return setting
        hint = f"set KMS_KEY to the ARN of a key in {self.region}"
        # The ARN is needed, since the policies of roles cannot name a key by its alias.
        with aws_errors(f"look at the key {setting}", hint=hint):
            return str(self.client("kms").describe_key(KeyId=setting)["KeyMetadata"]["Arn"])

    @property
    def tags(self) -> dict[str, str]:
        """The user's tags, and the project's tag."""
        return {**self.config.TAGS, names.PROJECT_TAG: self.config.PROJECT_NAME}


def _expect_owner(params: dict[str, Any], model: Any, *, account: str, **_: Any) -> dict[str, Any]:
    """Return an S3 request's parameters with the account that its buckets must belong to.

    Args:
        params: The request's parameters.
        model: Botocore's model of the operation.
        account: Number of the account, 12 digits.
    """
    members = model.input_shape.members if model.input_shape else {}
    wanted = ["ExpectedBucketOwner"]
    wanted += ["ExpectedSourceBucketOwner"] if "CopySource" in params else []
    return {**{name: account for name in wanted if name in members}, **params}
