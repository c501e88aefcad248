"""The CRC-32 of a whole from those of its parts, against zlib's own."""

from __future__ import annotations

import functools
import zlib

from hypothesis import given
from hypothesis import strategies as st

from classifold.aws.sending import decode_crc32, encode_crc32, join_crc32


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_parts_joined_one_by_one_have_the_checksum_of_the_whole(parts: list[bytes]) -> None:
    joined = functools.reduce(
        lambda before, part: join_crc32(before, zlib.crc32(part), second_bytes=len(part)), parts, 0
    )
    assert joined == zlib.crc32(b"".join(parts))


def test_lengths_of_real_parts_are_no_matter() -> None:
    first, second = b"a" * (16 << 20), b"b" * ((16 << 20) + 1)
    joined = join_crc32(zlib.crc32(first), zlib.crc32(second), second_bytes=len(second))
    assert joined == zlib.crc32(second, zlib.crc32(first))


@given(st.integers(0, 2**32 - 1))
def test_what_s3_reads_is_what_was_written(value: int) -> None:
    assert decode_crc32(encode_crc32(value)) == value


def test_it_is_written_as_s3_documents_it() -> None:
    # From the S3 user guide's rule: base64 of the four bytes, big end first.
    assert encode_crc32(0x3610A686) == "NhCmhg=="
