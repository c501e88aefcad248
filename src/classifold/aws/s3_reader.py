"""Reading pictures from S3 for packing; each worker process opens its own connection."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifold.dataset.tar_writer import SourceError
from classifold.pictures.limits import PictureError, check_bytes

if TYPE_CHECKING:
    from classifold.settings.config import Config


@dataclass(frozen=True)
class S3Reader:
    """Reads s3://bucket/key, with this machine's credentials. It can be pickled for worker processes.

    Args:
        config: The settings; PROJECT_REGION is the bucket's region.
    """

    config: Config

    def __call__(self, source: str) -> tuple[bytes, str]:
        """Return an object's content and its etag.

        Raises:
            SourceError: There is no such object, or it is larger than a picture can be.
            AwsError: AWS refuses, or cannot be reached.
        """
        from classifold.aws.refusals import aws_errors
        from classifold.errors import MissingError

        if not source.startswith("s3://"):
            raise SourceError("it is not an s3:// address")
        bucket, _, key = source.removeprefix("s3://").partition("/")
        try:
            with aws_errors(f"read {source}"):
                answer = _open_client(self.config.to_json()).get_object(Bucket=bucket, Key=key)
                check_bytes(answer["ContentLength"], max_pixels=self.config.MAX_PIXELS)
                return answer["Body"].read(), answer["ETag"]
        except MissingError as error:
            raise SourceError("there is no such object") from error
        except PictureError as error:
            raise SourceError(error.reason) from error


@functools.lru_cache(maxsize=1)
def _open_client(settings: str) -> Any:
    """Return this process's client of S3; it is made once.

    Args:
        settings: The settings as JSON.
    """
    import json

    from classifold.aws.clients import Aws
    from classifold.settings.loader import build_config

    return Aws(build_config(json.loads(settings))).client("s3")
