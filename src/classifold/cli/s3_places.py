"""The connection to S3 for the addresses among a command's arguments, made only where there are some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifold.cli.options import chosen_max_pixels

if TYPE_CHECKING:
    from classifold.aws.s3_pictures import S3Pictures
    from classifold.settings.config import Config


class LazyS3:
    """Makes the connection when it is first needed: loading boto3 takes a second."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pictures: S3Pictures | None = None

    def open(self) -> S3Pictures:
        """Return the connection.

        Raises:
            AwsError: The AWS settings of this machine cannot be read.
        """
        if self._pictures is None:
            from classifold.aws.s3_pictures import S3Pictures

            limit = chosen_max_pixels(self._config) or self._config.MAX_PIXELS
            self._pictures = S3Pictures(self._config, max_pixels=limit)
        return self._pictures
