"""The options of `classifold serve`, from the command line or environment variables, checked together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from classifold.errors import Fault, UsageError
from classifold.settings.config import Config
from classifold.trust.answering import check_one_option

API_KEY_VARIABLE = "CLASSIFOLD_API_KEY"
VARIABLE_PREFIX = "CLASSIFOLD_SERVE_"
LogFormat = Literal["text", "json", "none"]
# The folder of a container, the file of every run, and a cache's name for what is inside.
_SAYS_NOTHING = re.compile(r"\.*|model|[0-9a-f]{64}")
_LOOPBACK = re.compile(r"localhost|.*\.localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)


def _read_share(value: object) -> object:
    """Return a share that is written in percent as a number: "80%" is 0.8."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return str(float(value.strip()[:-1]) / 100)
    return value


def _split_list(value: object) -> object:
    return tuple(filter(None, re.split(r"[\s,]+", value))) if isinstance(value, str) else value


Share = Annotated[float, BeforeValidator(_read_share)]


@dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False))
class ServeOptions:
    """What the server does, and its limits. Times are in seconds, sizes in MB of a million bytes.

    Attributes:
        run: The model, as for `classifold predict`.
        runs_dir: The folder of all runs, where a run is looked for by name.
        name: What clients call the model; None: as RUN names it.
        host: Address to listen on; a loopback address is reached from this machine alone.
        port: Port to listen on; 0 takes a free one.
        workers: Number of processes.
        threads: Threads per process that read and classify pictures; None: one for each core.
        top_k: Classes per picture, where a request does not say how many.
        threshold: Pictures with less confidence are unknown, 0..1; None: the model's own rule.
        error: At most this share of the answers may be wrong, 0..1; None: the model's own rule.
        always_answer: Answer every picture, whatever it shows.
        max_pixels: A picture with more is not decoded; None: the limit in the model card.
        max_mb: Size of the largest request.
        max_pictures: Most pictures in one request.
        timeout: Time for reading a request, apart from what a slow line needs, and then for answering it.
        queue: Most pictures that wait; further requests are refused.
        connections: Most open connections per process.
        grace: Time to answer the requests in progress after SIGTERM or Ctrl-C.
        drain_wait: Time after SIGTERM in which new requests are still answered, while `/health/ready` already
            says 503; for load balancers that take a moment to notice.
        log_format: Format of the log, one line per request.
        data: Folder of the training pictures that explanations show; None: they only name them.
        allowed_hosts: Names that a request may address the server by, beside loopback names; if it is empty
            and the server listens on more than loopback, every name is allowed.
        api_key: What requests must send, except those for health; None: no key.
    """

    run: Path
    runs_dir: Path = Path(Config.model_fields["RUNS_DIR"].default)
    name: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[^/\x00-\x1f]+$")
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    threads: int | None = Field(default=None, ge=1, le=1024)
    top_k: int = Field(default=Config.model_fields["TOP_K"].default, ge=1)
    threshold: Share | None = Field(default=None, ge=0, le=1)
    error: Share | None = Field(default=None, gt=0, lt=1)
    always_answer: bool = False
    max_pixels: int | None = Field(default=None, ge=1)
    max_mb: float = Field(default=32, gt=0, le=1000)
    max_pictures: int = Field(default=64, ge=1, le=10_000)
    timeout: float = Field(default=30, gt=0, le=3600)
    queue: int = Field(default=256, ge=1, le=1_000_000)
    connections: int = Field(default=1000, ge=1, le=1_000_000)
    grace: float = Field(default=30, ge=0, le=3600)
    drain_wait: float = Field(default=0, ge=0, le=600)
    log_format: LogFormat = "text"
    data: Path | None = None
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_split_list)] = ()
    api_key: str | None = Field(default=None, min_length=8, repr=False)

    @property
    def served_name(self) -> str | None:
        """What clients call the model; None where neither the option nor RUN says."""
        return self.name or find_name(str(self.run))

    @property
    def max_bytes(self) -> int:
        """Size of the largest request, in bytes."""
        return int(self.max_mb * 1e6)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


def find_name(run: str) -> str | None:
    """Return the name of a model as RUN says it; None for what says nothing, such as `model.onnx`.

    Args:
        run: A path, the name of a run, or the address of an archive.
    """
    name = re.sub(r"\.(onnx|tar\.gz|tgz)$", "", run.rstrip("/").rpartition("/")[2])
    return None if _SAYS_NOTHING.fullmatch(name) else name


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address without a port is this machine's own, by its text alone."""
    return _LOOPBACK.fullmatch(host.strip("[]")) is not None


# Given by the command line or the container itself, not by a variable of their own.
_WITHOUT_VARIABLE = ("run", "runs_dir", "api_key")
VARIABLES = {
    field.name: VARIABLE_PREFIX + field.name.upper()
    for field in dataclasses.fields(ServeOptions)
    if field.name not in _WITHOUT_VARIABLE
}
"""The environment variable of each option, by its name in `ServeOptions`."""


def build_options(given: Mapping[str, Any], environment: Mapping[str, str]) -> ServeOptions:
    """Return the options: those given, then those of environment variables, then the defaults.

    An empty variable counts as one that is not set.

    Args:
        given: Values by their name in `ServeOptions`; None: not given.
        environment: Environment variables, such as `os.environ`.

    Raises:
        UsageError: With everything that is wrong.
    """
    values: dict[str, Any] = {name: environment.get(name_of) or None for name, name_of in VARIABLES.items()}
    values["api_key"] = environment.get(API_KEY_VARIABLE) or None
    named = dict(VARIABLES, api_key=API_KEY_VARIABLE)
    for name, value in given.items():
        if value is not None:
            values[name], named[name] = value, "--" + name.replace("_", "-")
    faults = _find_unknown(environment)
    try:
        options = _CHECK.validate_python({name: one for name, one in values.items() if one is not None})
    except ValidationError as error:
        faults += [_explain(problem, named) for problem in error.errors(include_url=False)]
    if faults:
        raise UsageError(*faults)
    rules = {named[name]: getattr(options, name) for name in ("threshold", "error", "always_answer")}
    check_one_option("serve", rules)
    return options


def _find_unknown(environment: Mapping[str, str]) -> list[Fault]:
    import difflib

    known = set(VARIABLES.values())
    faults = []
    for name in sorted(environment):
        if name.startswith(VARIABLE_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`classifold serve --help` lists the options"
            faults.append(
                Fault(
                    name, "unknown environment variable: no option of `classifold serve` has this name", hint
                )
            )
    return faults


def _explain(problem: Any, named: Mapping[str, str]) -> Fault:
    name = str(problem["loc"][0]) if problem["loc"] else "serve"
    what = str(problem["msg"]).removeprefix("Value error, ")
    # The key itself is a secret, and errors are shown and logged.
    got = "" if name == "api_key" else repr(problem["input"])
    hint = "`classifold serve --help` says what it takes"
    return Fault(named.get(name, name), f"wrong value: {what[:1].lower()}{what[1:]}", hint, got=got)


_CHECK: TypeAdapter[ServeOptions] = TypeAdapter(ServeOptions)


def dump_options(options: ServeOptions) -> bytes:
    """Return the options as JSON, the API key among them, for another process of the same server."""
    return _CHECK.dump_json(options)


def load_options(content: bytes) -> ServeOptions:
    """Return the options that `dump_options` wrote."""
    return _CHECK.validate_json(content)
