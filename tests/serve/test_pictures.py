"""The readers of bodies: whatever arrives, in whatever pieces, gives pictures or a reason."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.serve.errors import HttpError
from classifold.serve.pictures import SentPicture, clean_name, decode_base64, open_body

BOUNDARY = "xYzZY"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\;'), min_size=1, max_size=30
)
contents = st.binary(min_size=1, max_size=300).filter(lambda data: b"--" + BOUNDARY.encode() not in data)


def feed(content_type: str, body: bytes, cuts: list[int], *, max_pictures: int = 64) -> list[SentPicture]:
    """Give a body to its reader in pieces, cut at these places."""
    reader = open_body(content_type, max_pictures=max_pictures)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(places):
        reader.add(body[start:end])
    return reader.finish()


def find_status(work: Callable[[], object]) -> int:
    """Return 200 for work that succeeds, else the status of its refusal."""
    try:
        work()
    except HttpError as error:
        return error.status
    return 200


def write_form(files: list[tuple[str, bytes]]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="p"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@given(
    st.lists(st.tuples(names, contents), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=8)
)
def test_a_form_gives_its_files_however_it_is_cut(files: list[tuple[str, bytes]], cuts: list[int]) -> None:
    found = feed(FORM, write_form(files), cuts)
    assert [(one.name, one.data) for one in found] == [(name, content) for name, content in files]


@given(
    st.lists(st.tuples(names, contents), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=8)
)
def test_json_gives_its_pictures_however_it_is_cut(files: list[tuple[str, bytes]], cuts: list[int]) -> None:
    entries = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files]
    body = json.dumps({"pictures": entries}, ensure_ascii=False).encode()
    found = feed("application/json; charset=utf-8", body, cuts)
    assert [(one.name, one.data) for one in found] == files


@given(st.sampled_from([FORM, "application/json"]), st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_any_bytes_give_pictures_or_a_reason(content_type: str, body: bytes, cuts: list[int]) -> None:
    assert find_status(lambda: feed(content_type, body, cuts)) in (200, 400, 413)


@given(st.binary(min_size=1, max_size=400), st.integers(0, 600), st.binary(max_size=3))
def test_a_form_that_is_changed_somewhere_gives_pictures_or_a_reason(
    content: bytes, place: int, change: bytes
) -> None:
    body = write_form([("a", b"first"), ("b", content)])
    place %= len(body)
    changed = body[:place] + change + body[place + 1 :]
    assert find_status(lambda: feed(FORM, changed, [])) in (200, 400, 413)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["pictures", "picture", "data", "instances", "b64", "name"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_gives_pictures_or_a_reason(value: object) -> None:
    body = json.dumps(value).encode()
    assert find_status(lambda: feed("application/json", body, [])) in (200, 400, 413)


@given(st.text(max_size=80))
def test_any_content_type_is_read_or_refused(content_type: str) -> None:
    assert find_status(lambda: open_body(content_type, max_pictures=1)) in (200, 400, 415)


def test_a_field_that_was_left_empty_is_no_picture() -> None:
    body = write_form([("", b""), ("a.png", b"content")])
    assert [one.data for one in feed(FORM, body, [])] == [b"content"]


def test_a_field_without_a_file_is_passed_over() -> None:
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'.encode()
    assert [one.name for one in feed(FORM, field + write_form([("a.png", b"x")]), [])] == ["a.png"]


def test_a_form_of_fields_without_end_is_refused() -> None:
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n3\r\n'.encode()
    with pytest.raises(HttpError, match="too many parts") as caught:
        feed(FORM, field * 100, [], max_pictures=4)
    assert caught.value.status == 413


def test_a_part_with_an_endless_header_is_refused() -> None:
    body = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=".encode() + b"a" * 20_000
    with pytest.raises(HttpError) as caught:
        feed(FORM, body, list(range(0, 20_000, 1000)))
    assert caught.value.status == 400


@given(
    st.binary(min_size=1, max_size=100), st.lists(st.tuples(st.integers(0, 200), st.sampled_from(" \r\n\t")))
)
def test_base64_may_be_broken_into_lines(data: bytes, blanks: list[tuple[int, str]]) -> None:
    text = base64.b64encode(data).decode()
    for place, blank in blanks:
        text = text[: place % len(text)] + blank + text[place % len(text) :]
    assert decode_base64(text, where="x") == data


def test_a_name_is_cut_and_never_empty() -> None:
    assert clean_name("") is None
    assert clean_name(7) is None
    assert clean_name("ä" * 300) == "ä" * 255


@pytest.mark.parametrize("key", ["pictures", "instances"])
def test_pictures_may_be_plain_texts_in_base64_or_data_urls(key: str) -> None:
    texts = [base64.b64encode(b"one").decode(), "data:image/png;base64," + base64.b64encode(b"two").decode()]
    found = feed("application/json", json.dumps({key: texts}).encode(), [])
    assert [(one.name, one.data) for one in found] == [(None, b"one"), (None, b"two")]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b"{" + b",".join(b'"a%d":[{}]' % number for number in range(200_000)) + b"}",
        b'{"pictures": [' + b'"",' * 20_000 + b'""]}',
    ],
    ids=["lists", "objects", "texts"],
)
def test_json_of_very_many_values_is_refused_before_it_is_read(body: bytes) -> None:
    with pytest.raises(HttpError, match="more values") as caught:
        feed("application/json", body, [])
    assert caught.value.status == 413


def test_as_many_pictures_as_are_allowed_fit_into_json_with_fields_of_the_clients_own() -> None:
    entry = {"name": "a, b: {c}", "data": "AAAA", "taken": [2026, 1, 1], "place": {"x": 1, "y": 2}}
    body = json.dumps({"pictures": [entry] * 2000}).encode()
    assert len(feed("application/json", body, [], max_pictures=2000)) == 2000
