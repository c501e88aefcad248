from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.predict.addresses import is_address, show_address, show_given


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.com/a.jpg", "https://example.com/a.jpg"),
        ("https://ann:pa55@example.com:8443/a.jpg", "https://example.com:8443/a.jpg"),
        ("https://ann:p@ss@example.com/a.jpg", "https://example.com/a.jpg"),
        ("http://x/a.jpg?id=5&size=large", "http://x/a.jpg?id=5&size=large"),
        ("http://x/a.jpg?id=5&token=abc", "http://x/a.jpg?id=5&token=…"),
        ("http://x/a?X-Amz-Date=2026&X-Amz-Signature=ab", "http://x/a?X-Amz-Date=…&X-Amz-Signature=…"),
        ("http://x/a?sv=2020&sig=ab%2Fc", "http://x/a?sv=2020&sig=…"),
        ("http://x/a?%74oken=abc", "http://x/a?%74oken=…"),
        ("http://x/a?" + "e" * 80, "http://x/a?…"),
        ("http://x/a?t=" + "e" * 80, "http://x/a?t=…"),
        ("http://x/a.jpg#secret", "http://x/a.jpg"),
        ("http://[bad/ann:pa55", "http://…"),
        ("https://ann:pa/55@example.com/a.jpg", "https://…"),
        ("https://ann:pa#55@example.com/a.jpg", "https://…"),
        ("https://ann:pa?55@example.com/a.jpg", "https://…"),
        ("https://example.com:8443/@ann/a.jpg", "https://example.com:8443/@ann/a.jpg"),
        ("https://[::1]:8443/@ann/a.jpg", "https://[::1]:8443/@ann/a.jpg"),
    ],
)
def test_an_address_is_shown_without_what_lets_its_bearer_in(address: str, shown: str) -> None:
    assert show_address(address) == shown


@given(
    secret=st.text("abcdefgh0123456789-_.~", min_size=6, max_size=30).map(lambda text: f"s3cr3t{text}"),
    place=st.sampled_from(
        ["http://ann:{}@x/a", "http://{}@x/a", "http://x/a?sig={}", "http://x/a?a=1&access_token={}&b=2"]
    ),
)
def test_no_secret_of_an_address_is_ever_shown(secret: str, place: str) -> None:
    assert secret not in show_address(place.format(secret))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://ann:pa55@h/x.jpg", "ftp://h/x.jpg"),
        ("sftp://ann:pa/55@h/x.jpg", "sftp://…"),
        ("s3://AKIA:pa55@b/x.jpg", "s3://b/x.jpg"),
        ("S3://AKIA:pa/55@b/x.jpg", "S3://…"),
        ("s3://b/ann@home/1:2#3?token=4.jpg", "s3://b/ann@home/1:2#3?token=4.jpg"),
        ("https:ann:pa55@h", "https:…@h"),
        ("https:/ann:pa55@h/x.jpg", "https:/…@h/x.jpg"),
        ("https:///ann:pa55@h/x.jpg", "https://…"),
        ("https:/ann:pa/55@h/x.jpg", "https:/…@h/x.jpg"),
        ("https:/pa55@h/x.jpg", "https:/…@h/x.jpg"),
        ("https:/h/x.jpg?token=pa55", "https:/h/x.jpg?token=…"),
        ("//ann:pa55@h/x.jpg", "//…@h/x.jpg"),
        ("ann:pa55@h/x.jpg", "ann:…@h/x.jpg"),
        ("ann lee:pa55@h/x.jpg", "…@h/x.jpg"),
        ("photos/a@b.jpg", "photos/a@b.jpg"),
        ("photos/12:30@b.jpg", "photos/12:30@b.jpg"),
        ("a@b.jpg", "a@b.jpg"),
        (r"C:\photos\a@b.jpg", r"C:\photos\a@b.jpg"),
        ("", ""),
        (' "https://ann:pa55@h/x.jpg"', ' "https://h/x.jpg"'),
        ("<ftp://ann:pa55@h/x.jpg>", "<ftp://h/x.jpg>"),
        (" https:/ann:pa55@h/x.jpg", " https:/…@h/x.jpg"),
        ("photos/http://x/a.jpg", "photos/http://x/a.jpg"),
    ],
)
def test_what_is_no_file_is_shown_without_a_password(text: str, shown: str) -> None:
    assert show_given(text) == shown


@given(
    secret=st.text("abcdefgh0123456789-_.~/@?#:", max_size=20).map(lambda text: f"s3cr3t{text}s3cr3t"),
    begin=st.sampled_from(["http:", "https:", "ftp:", "s3:", "sftp:", "gs:"]),
    slashes=st.sampled_from(["", "/", "//", "///"]),
)
def test_no_password_is_ever_shown_however_the_address_is_typed(
    secret: str, begin: str, slashes: str
) -> None:
    assert "s3cr3t" not in show_given(f"{begin}{slashes}ann:{secret}@h/x.jpg")


@given(text=st.text())
def test_any_text_can_be_shown(text: str) -> None:
    show_address(f"https://{text}")


def test_only_http_and_https_are_addresses() -> None:
    assert is_address("HTTPS://x/a.jpg")
    assert is_address("http://x")
    assert not is_address("ftp://x")
    assert not is_address("https:/x")
    assert not is_address("photos/http://x")
