"""The lab's server: moto behind a layer that checks what AWS checks, and goes wrong where a test says so."""

from __future__ import annotations

import functools
import gc
import io
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from lab import ecr, mends, refusals
from lab.calls import Calls
from lab.faults import TROUBLES, Fault, Faults
from lab.needs import Need, find_needs, find_resource
from lab.operations import (
    ACCOUNT,
    Caller,
    find_operation,
    find_right,
    read_caller,
    read_invocation,
    split_path,
)
from lab.quotas import Quotas
from lab.refusals import Refusal, StartResponse
from lab.rights import is_allowed
from lab.sagemaker import OPERATIONS, SageMaker
from lab.scaling import check_scaling, mend_scaling
from lab.simulation import simulate
from lab.tagging import mend_tagging
from lab.validation import InvalidError
from lab.verbs import Verbs

if TYPE_CHECKING:
    from lab.relay import Relay

CONTROL_PATH = "/lab/"
_REFUSALS = {
    "throttle": refusals.throttled,
    "expire": refusals.expired,
    "unknown_key": refusals.unknown_key,
    "fail": refusals.failed,
}


class Lab:
    """A WSGI application in front of moto's; one in a process.

    Attributes:
        faults: What goes wrong on purpose.
        policy: The statements that the caller's permissions are limited to; none: no limit.
        quotas: SageMaker's quotas and prices.
        secure: Whether requests count as made over TLS, as they would be on AWS.
        calls: The latest requests, the oldest first.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from moto.s3.models import s3_backends

        # Making thousands of machine images, which nobody asks for, takes moto a tenth of a second per test.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        mends.mend_moto()
        ecr.mend_digests()
        self.moto = DomainDispatcherApplication(create_backend_app)
        # It lists moto's own folder for every request, which is a third of its time.
        find = functools.cache(self.moto.get_backend_for_host)
        setattr(self.moto, "get_backend_for_host", find)  # noqa: B010
        self.buckets = s3_backends
        self.faults = Faults()
        self.quotas = Quotas()
        self.sagemaker = SageMaker(ACCOUNT, self.quotas)
        mend_scaling()
        mend_tagging(self.sagemaker.list_tagged)
        self.relay: Relay | None = None
        self.policy: list[dict[str, Any]] = []
        self.secure = True
        self.address = ""
        self.arns: dict[str, str] = {}
        self.calls = Calls()
        # What a test has asked to be kept: each request that changes something, with its body.
        self.recording: list[tuple[dict[str, Any], bytes]] | None = None
        self.verbs = Verbs(self)

    # Every request

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Answer a request."""
        path = environ["PATH_INFO"]
        if path.startswith(CONTROL_PATH):
            return self._control(path.removeprefix(CONTROL_PATH), environ, start_response)
        if path.startswith("/moto-api"):
            return self.moto(environ, start_response)
        caller = read_caller(environ)
        # S3's bodies are read once, by moto; the others' are small.
        body = b"" if caller.service in ("s3", "") else _read_body(environ)
        # Requests to endpoints carry pictures, which are not kept either.
        is_invocation = caller.service == "sagemaker" and bool(read_invocation(path))
        self.calls.record(caller, environ, b"" if is_invocation else body)
        if self.recording is not None:
            self._record(environ, self.recording)
        if self.faults.rules or self.policy:
            refusal = self._strike(caller, environ, body)
            if isinstance(refusal, Fault):
                return refusals.answer_as_is(refusal.status, refusal.body, refusal.headers, start_response)
            if refusal:
                return refusals.answer(refusal, caller.service, environ, start_response)
        if caller.service == "s3":
            answer = self._answer_s3(caller, environ, start_response)
        elif is_invocation:
            reply = self.sagemaker.runtime.answer(environ, body, caller.region)
            answer = refusals.answer_whole(*reply, start_response)
        else:
            answer = self._answer_service(caller, environ, body, start_response)
        if self.faults.rules and self._is_lost(caller, environ, body):
            _break(environ)
        return answer

    def _record(self, environ: dict[str, Any], recording: list[tuple[dict[str, Any], bytes]]) -> None:
        """Keep a request, unless it only reads."""
        body = _read_body(environ)
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE") and b"Action=Get" not in body:
            plain = {name: value for name, value in environ.items() if isinstance(value, str | int | tuple)}
            recording.append(({**plain, "wsgi.errors": sys.stderr}, body))

    def _is_lost(self, caller: Caller, environ: dict[str, Any], body: bytes) -> bool:
        """Tell whether the answer to a request is to be lost."""
        operation = find_operation(environ, body)
        right = find_right(caller.service, operation)
        rules = self.faults.strike(service=caller.service, operation=operation, right=right, kinds=("lose",))
        return bool(rules)

    def _strike(self, caller: Caller, environ: dict[str, Any], body: bytes) -> Refusal | Fault | None:
        """Let the faults that are in force do their work; return the refusal of one that refuses.

        One that puts an answer in the place of AWS's is returned itself.
        """
        operation = find_operation(environ, body)
        right = find_right(caller.service, operation)
        for fault in self.faults.strike(
            service=caller.service, operation=operation, right=right, kinds=TROUBLES
        ):
            if fault.kind == "slow":
                time.sleep(fault.seconds)
            elif fault.kind == "cut":
                _cut(environ, fault)
            elif fault.kind == "replace":
                return fault
            else:
                return _REFUSALS[fault.kind](caller.service)
        for need in find_needs(
            caller,
            operation,
            environ,
            body,
            read_tags=self.sagemaker.read_tags,
            find_volume_key=self.sagemaker.hosting.find_volume_key,
        ):
            lacks = self.policy and not is_allowed(
                self.policy, need.right, need.resource, context=need.context
            )
            is_denied = self.faults.denies(service=caller.service, operation=operation, right=need.right)
            if lacks or is_denied:
                return self._deny(caller, need)
        return None

    def _deny(self, caller: Caller, need: Need) -> Refusal:
        """Return the refusal for want of a permission, with the caller's name in it."""
        who = self.arns.get(caller.access_key, f"arn:aws:iam::{ACCOUNT}:user/tester")
        return refusals.denied(caller.service, who=who, right=need.right, resource=need.resource)

    # S3: owners and regions, which moto does not look at

    def _answer_s3(self, caller: Caller, environ: dict[str, Any], start_response: StartResponse) -> Any:
        name, key = split_path(environ["PATH_INFO"])
        owner = self.buckets.bucket_accounts.get(name)
        makes = environ["REQUEST_METHOD"] == "PUT" and not key and not environ.get("QUERY_STRING")
        mends.context.values = {
            "aws:SecureTransport": str(self.secure).lower(),
            "aws:PrincipalAccount": ACCOUNT,
            "aws:SourceAccount": ACCOUNT,
            "s3:ResourceAccount": ACCOUNT,
            "s3:TlsVersion": "1.3",
        }
        encryption = environ.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION")
        if encryption:
            mends.context.values["s3:x-amz-server-side-encryption"] = encryption
        if owner and not makes:
            refusal, headers = self._check_bucket(name, owner, caller, environ)
            if refusal:
                return refusals.answer(refusal, "s3", environ, start_response, headers=headers)
        return self.moto(environ, start_response)

    def _check_bucket(
        self, name: str, owner: tuple[str, str], caller: Caller, environ: dict[str, Any]
    ) -> tuple[Refusal | None, list[tuple[str, str]]]:
        partition, account = owner
        source = environ.get("HTTP_X_AMZ_COPY_SOURCE", "").lstrip("/").partition("/")[0]
        source_owner = self.buckets.bucket_accounts.get(source, ("", ""))[1]
        wanted = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER", account)
        source_wanted = environ.get("HTTP_X_AMZ_SOURCE_EXPECTED_BUCKET_OWNER", source_owner)
        if wanted != account or account != ACCOUNT or source_wanted != source_owner:
            return Refusal(403, "AccessDenied", "Access Denied"), []
        bucket = self.buckets[account][partition].buckets.get(name)
        if bucket is None:
            return None, []
        if bucket.region_name != caller.region and caller.region != "aws-global":
            said = (
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint."
            )
            return Refusal(301, "PermanentRedirect", said), [("x-amz-bucket-region", bucket.region_name)]
        if not self.secure and bucket.policy:
            from moto.iam.access_control import PermissionResult

            operation = find_operation(environ, b"")
            right, resource = find_right("s3", operation), find_resource(caller, operation, environ, b"")
            if bucket.get_permission(right, resource) == PermissionResult.DENIED:
                return Refusal(403, "AccessDenied", "Access Denied"), []
        return None, []

    def _control(self, verb: str, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Answer a test's own request."""
        try:
            asked = json.loads(_read_body(environ) or b"{}")
            answer: Any = getattr(self.verbs, verb)(**asked)
        except Exception:
            answer = {"error": traceback.format_exc()}
        return refusals.answer_json(answer, start_response)

    # The other services

    def _answer_service(
        self, caller: Caller, environ: dict[str, Any], body: bytes, start_response: StartResponse
    ) -> Any:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.startswith("ServiceQuotas") and json.loads(body).get("ServiceCode") == "sagemaker":
            return self._answer_quotas(caller, target, environ, json.loads(body), start_response)
        if caller.service == "sts" and caller.access_key in self.arns and b"Action=GetCallerIdentity" in body:
            return refusals.answer_xml(self._identity(caller), start_response)
        if caller.service == "iam" and b"Action=SimulatePrincipalPolicy" in body:
            answer = simulate(body, ACCOUNT)
            return (
                refusals.answer_xml(answer, start_response) if answer else self.moto(environ, start_response)
            )
        if target == "AWSPriceListService.GetProducts":
            return refusals.answer_json(self.quotas.get_products(json.loads(body)), start_response)
        operation = target.rpartition(".")[2]
        if target.startswith("SageMaker.") and operation in OPERATIONS:
            return self._answer_sagemaker(caller, operation, environ, json.loads(body), start_response)
        if target.startswith("AnyScaleFrontendService."):
            try:
                check_scaling(operation, json.loads(body), caller.region, self.sagemaker.hosting)
            except InvalidError as invalid:
                refusal = Refusal(400, invalid.code, invalid.message)
                return refusals.answer(refusal, caller.service, environ, start_response)
        if target.startswith("AmazonEC2ContainerRegistry_"):
            if operation == "GetAuthorizationToken":
                return refusals.answer_json(ecr.answer_token(ACCOUNT, caller.region), start_response)
            ecr.prepare(operation, json.loads(body), account=ACCOUNT, region=caller.region)
        return self.moto(environ, start_response)

    def _answer_sagemaker(
        self,
        caller: Caller,
        operation: str,
        environ: dict[str, Any],
        asked: dict[str, Any],
        start_response: StartResponse,
    ) -> Any:
        try:
            answer = self.sagemaker.answer(operation, asked, caller.region)
        except InvalidError as invalid:
            refusal = Refusal(400, invalid.code, invalid.message)
            return refusals.answer(refusal, caller.service, environ, start_response)
        return refusals.answer_json(answer, start_response)

    def _identity(self, caller: Caller) -> str:
        """Return the tester's identity; moto knows one caller only, of its own making."""
        return (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"<Arn>{self.arns[caller.access_key]}</Arn><UserId>AIDATESTER</UserId><Account>{ACCOUNT}</Account>"
            "</GetCallerIdentityResult><ResponseMetadata><RequestId>lab</RequestId></ResponseMetadata>"
            "</GetCallerIdentityResponse>"
        )

    def _answer_quotas(
        self,
        caller: Caller,
        target: str,
        environ: dict[str, Any],
        asked: dict[str, Any],
        start_response: StartResponse,
    ) -> Any:
        if target.endswith(("ListServiceQuotas", "ListAWSDefaultServiceQuotas")):
            found = self.quotas.list_quotas(asked, region=caller.region, account=ACCOUNT)
            return refusals.answer_json(found, start_response)
        quota = self.quotas.get_quota(asked, region=caller.region, account=ACCOUNT)
        if quota is None:
            missing = Refusal(
                400, "NoSuchResourceException", "The request failed because there is no such quota."
            )
            return refusals.answer(missing, caller.service, environ, start_response)
        return refusals.answer_json(quota, start_response)


def _read_body(environ: dict[str, Any]) -> bytes:
    """Return the request's body, and leave a fresh one for whoever comes next."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _cut(environ: dict[str, Any], fault: Fault) -> None:
    """Read a part of the body, then break the connection as a network does: with a reset."""
    left = min(fault.after_bytes, int(environ.get("CONTENT_LENGTH") or 0))
    while left > 0:
        piece = environ["wsgi.input"].read(min(left, 65536))
        if not piece:
            break
        left -= len(piece)
    _break(environ)


def _break(environ: dict[str, Any]) -> None:
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("cut on purpose")


def serve(port: int) -> None:
    """Serve until standard input ends, which it does when the process that started this one does."""
    import logging

    from werkzeug.serving import make_server

    from lab.connection import KeptConnection

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    lab = Lab()
    # What is loaded stays for good: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    server = make_server("127.0.0.1", port, lab, threaded=True, request_handler=KeptConnection)
    lab.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"url": lab.address}), flush=True)
    sys.stdin.read()
    lab.sagemaker.reset()
    if lab.relay:
        lab.relay.close()
