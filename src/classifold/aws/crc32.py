"""The CRC-32 of a whole, from those of its parts: how S3 checks a large object that arrives in pieces."""

from __future__ import annotations

import base64
import functools

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # the polynomial 1: bits are kept in reversed order


def encode_crc32(value: int) -> str:
    """Return a CRC-32 as S3 writes it: four bytes, big end first, in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def decode_crc32(text: str) -> int:
    """Return the CRC-32 that S3 wrote."""
    return int.from_bytes(base64.b64decode(text), "big")


def join_crc32(first: int, second: int, *, second_bytes: int) -> int:
    """Return the CRC-32 of two pieces after one another, from the CRC-32 of each.

    The first is carried over the bytes of the second, that is multiplied by x to the power of their bits
    modulo the polynomial; as crc32_combine of zlib 1.2.12 does it.

    Args:
        first: Of the first piece.
        second: Of the second piece.
        second_bytes: How long the second piece is.
    """
    return _multiply(_power_of_x(8 * second_bytes), first) ^ second


@functools.lru_cache(maxsize=64)
def _power_of_x(exponent: int) -> int:
    result, square = _ONE, _ONE >> 1  # x itself
    while exponent:
        if exponent & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        exponent >>= 1
    return result


def _multiply(one: int, other: int) -> int:
    """Return the product of two polynomials over GF(2), modulo the CRC's."""
    product, bit = 0, _ONE
    while bit:
        if one & bit:
            product ^= other
        other = (other >> 1) ^ _POLYNOMIAL if other & 1 else other >> 1
        bit >>= 1
    return product
