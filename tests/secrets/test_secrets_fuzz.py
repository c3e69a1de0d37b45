"""Test secrets at random places: none is left, nothing else changes, and no text raises or takes long."""

from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelflow._secrets import patterns
from otelflow._secrets.detect import looks_secret, redact, redact_registered
from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import is_harmless
from otelflow._values import attribute as _attribute
from otelflow._values import scrub
from otelflow._values.attribute import JsonText, simple_json, to_attribute, to_json
from otelflow._values.text import is_clean, scrub_and_truncate, scrub_long, truncate

WORD = st.text(string.ascii_letters + string.digits, min_size=8, max_size=30).map(lambda text: f"Zq{text}7")
NAMES = st.sampled_from(
    ["password", "dbPassword", "X-Api-Key", "access_token", "client_secret", "AWS_SECRET_ACCESS_KEY"]
)
NEUTRAL = st.text(
    st.characters(exclude_characters="=:<>-'\"`\\@/&;,{}[]()\x1b", exclude_categories=["Cs"]), max_size=40
)
"""Text in which no pair begins, and that has no quote or bracket around a value."""
PIECES = st.sampled_from(
    ["password", "token", "=", ":", " ", '"', "'", "\\", "\\n", "{", "}", "[", "]", "(", ")", "<", ">", "--", "://",
     "@", "eyJ", ".", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "4111", "Bearer ", "Basic ", "sk-",
     ",", ";", "&", "[redacted:jwt]", "\n", "é", "\ud800", "\x00", "a" * 40, "7" * 16]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=60).map("".join)


@given(NEUTRAL, NAMES, st.sampled_from(["=", ": ", " = ", "='{}'", '": "{}"', "=>"]), WORD, NEUTRAL)
def test_a_secret_in_a_pair_is_not_left(before: str, name: str, form: str, secret: str, after: str) -> None:
    """The secret is removed whatever surrounds it, and the text after it stays."""
    pair = f"{name}{form}" if "{}" in form else f"{name}{form}{{}}"
    text = f"{before} {pair.format(secret)} {after}"
    clean_text = redact(text)
    assert secret not in clean_text
    assert clean_text.endswith(redact(after))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(string.ascii_lowercase + " ", max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "rows", "n"]), inner, max_size=3),
    max_leaves=12,
)


def with_secret_at_a_leaf(value: Any, name: str, secret: str) -> Any:
    """Return ``value`` with the secret under ``name`` at its deepest first place."""
    if isinstance(value, list) and value:
        return [with_secret_at_a_leaf(value[0], name, secret), *value[1:]]
    if isinstance(value, dict) and value:
        first = next(iter(value))
        return {**value, first: with_secret_at_a_leaf(value[first], name, secret)}
    return {name: secret, "next": value}


@given(JSON, NAMES, WORD, st.integers(0, 3))
def test_a_secret_at_any_depth_of_json_is_not_left(value: Any, name: str, secret: str, levels: int) -> None:
    """It is removed from objects, and from text that was encoded as JSON several times.

    Without a secret all data stays.
    """
    assert json.loads(to_json(value).text) == value
    with_secret: Any = with_secret_at_a_leaf(value, name, secret)
    assert secret not in to_json(with_secret).text
    text = json.dumps(with_secret)
    for _ in range(levels):
        text = json.dumps({"body": text})
    clean_text = redact(text)
    assert secret not in clean_text
    for _ in range(levels):
        clean_text = json.loads(clean_text)["body"]
    assert json.loads(clean_text) == json.loads(
        json.dumps(with_secret).replace(secret, f"[redacted:name {secret_in_name(name)}]")
    )


@given(HOSTILE)
@example("'" * 60)
@example('token="' * 20)
@settings(max_examples=400)
def test_no_text_raises(text: str) -> None:
    """No function raises for any text, and the result is encodable and bounded."""
    clean_text = redact(text)
    redact(text, code=True)
    redact_registered(text)
    looks_secret("a", text)
    secret_in_name(text)
    to_attribute(text or "a", text)
    for short_text, _ in (scrub_and_truncate(text, 64), to_attribute("a", text)):
        short_text.encode()
    assert len(scrub_and_truncate(text, 64)[0].encode()) <= 64
    assert len(clean_text) <= len(text) * 12 + 40


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_an_ordinary_text_stays(text: str) -> None:
    """A text without names and without anything like a key does not change."""
    plain = "".join(letter for letter in text if not (letter.isascii() and letter.isalnum()))
    assert redact(plain) == plain
    assert scrub_long(plain) == plain


@given(st.text(max_size=400), st.integers(64, 300), st.integers(0, 50))
def test_truncation_is_the_same_with_and_without_a_search(text: str, limit: int, left_out: int) -> None:
    """A text without secrets is truncated in the same way with and without a search."""
    assert scrub_and_truncate(text, limit) == truncate(text, limit) or redact(text) != text
    assert len(truncate(text, limit, left_out)[0].encode()) <= limit


@given(st.integers(10**12, 10**19 - 1))
def test_a_number_is_a_card_by_its_check_digit_only(number: int) -> None:
    """A replaced number has a valid check digit and begins like an issuer's numbers. Times in ms to ns never do."""
    digits = str(number)
    is_replaced = redact(digits) != digits
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    is_valid = sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0
    assert not is_replaced or (is_valid and digits[0] in "23456")


# --- the shortcut for harmless texts ----------------------------------------------------------------------------------


ALL_PATTERNS = (*patterns._LONG_PATTERNS, *patterns._SHORT_PATTERNS)


def matches_of(pattern: Any) -> st.SearchStrategy[str]:
    """Return a strategy for texts that the pattern matches."""
    if pattern.rule == "basic":
        return st.sampled_from(["asic dXNlcjpwYXNz", "asic  YTpiYzpkZWZn"])
    rest = re.sub(r"\(\?<?[=!](?:[^()\[\]]|\[[^\]]*\])*\)", "", pattern.rest)
    return st.from_regex(re.compile(rest, re.ASCII), fullmatch=True).map(lambda text: pattern.literal + text)


MATCHES = st.one_of([matches_of(pattern) for pattern in ALL_PATTERNS])
NEAR_MATCHES = st.builds(lambda text, end: text[: len(text) - end], MATCHES, st.integers(0, 3))
CARDS = st.sampled_from(
    [
        "4111111111111111",
        "4111-1111-1111-1111",
        "4222222222222",
        "4222 2222 2222 2",
        "3782 822463 10005",
        "411111111111",
    ]
)
FRAGMENTS = st.one_of(
    NEAR_MATCHES,
    CARDS,
    PIECES,
    st.sampled_from([*STEMS, *(pattern.literal for pattern in ALL_PATTERNS)]),
    st.sampled_from(["=", ": ", "--", " ", "-", "/", "<", ">", "', '", '"', "x" * 15, "x" * 16, "9" * 12, "1 ", "ß"]),
    st.text(string.ascii_letters + " .,-/", max_size=8),
)


def redact_without_shortcut(text: str, code: bool) -> str:
    """Redact ``text`` with the check for harmless texts disabled."""
    original, patterns.is_harmless = patterns.is_harmless, lambda *_, **__: False
    try:
        return redact(text, code=code)
    finally:
        patterns.is_harmless = original


@given(st.lists(FRAGMENTS, max_size=5).map("".join), st.booleans())
@settings(max_examples=500, deadline=None)
def test_the_shortcut_gives_the_same_result(text: str, code: bool) -> None:
    """A text that the quick check calls harmless is so by every rule. For other texts nothing changes."""
    assert redact(text, code=code) == (clean_text := redact_without_shortcut(text, code))
    if is_harmless(text) or is_clean(text):
        assert clean_text == text
    if is_clean(text):
        assert scrub_and_truncate(text) == (text, False) == truncate(text)


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=lambda pattern: pattern.literal)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_the_shortcut_misses_no_form(pattern: Any, data: st.DataObject) -> None:
    """Each pattern has its own examples, as random texts would hardly match some of them."""
    before, after = (
        data.draw(st.sampled_from(["", " ", "1", "\\n", "b", "B", "é "])),
        data.draw(st.sampled_from(["", " x"])),
    )
    text = f"{before}{data.draw(matches_of(pattern))}{after}"
    assert not is_harmless(text) or redact_without_shortcut(text, False) == text
    assert not is_clean(text) or redact_without_shortcut(text, False) == text


@pytest.mark.parametrize(
    "secret",
    [
        *("4222222222222", "4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "--password ab"),
        *(
            "hooks.slack.com/services/T012/B012/a/b/c/d/e",
            "Bearer a.b.c.d.e.f.g.h.i",
            "xoxb-1-2-3-4-5-6",
            "xapp-1-2-3-4-5-6",
        ),
    ],
)
def test_the_shortcut_misses_no_secret_of_short_words(secret: str) -> None:
    """Random texts rarely find these: thirteen digits with separators, words of one letter."""
    for text in (secret, f"so {secret}", f"{secret} then"):
        assert redact_without_shortcut(text, False) != text
        assert not is_clean(text)


def test_ordinary_messages_take_the_shortcut() -> None:
    """The shortcut covers ordinary messages, and no text that could contain a secret."""
    for text in ("added", "loaded 200 rows from the table", "wrote 3/4 of 2024-11-27 to out-1.csv (12.5 s)", "", "é"):
        assert is_harmless(text), text
        assert is_clean(text) == text.isascii() or len(text) < 11
    for text in (
        "a=b",
        "a: b",
        "it's",
        'a "b"',
        "<a>",
        "--a b",
        "a" * 16,
        "4 1 1 1 1 1 1 1 1 1 1 1 1",
        "://",
        "xox-",
        "\x1b[1mb",
    ):
        assert not is_harmless(text), text
        assert not is_clean(text), text


def test_a_callback_gets_every_text() -> None:
    """With a custom rule, no text is harmless."""
    assert is_clean("added")
    scrub.use_callback(lambda name, text, rule: "gone" if text == "added" else None)
    try:
        assert not is_clean("added")
        assert scrub_long("added") == "gone"
    finally:
        scrub.use_callback(None)


# --- the fast encoder for plain values --------------------------------------------------------------------------------

WORDS = (
    st.text(string.ascii_lowercase + " .,-_/", max_size=14)
    | FRAGMENTS
    | st.text(max_size=6)
    | st.text("ab", max_size=70)
)
ITEMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-5, 10**13)
    | st.floats()
    | WORDS
    | st.sampled_from([b"bytes", {1, 2}, ("password", "abc"), ("rows", 3), ("a", "b", "c"), (), object, 3j, 10**600])
)
VALUES = st.recursive(
    ITEMS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(WORDS, inner)
        | st.dictionaries(WORDS | NAMES | st.integers(0, 3), inner, max_size=5)
        | inner.map(lambda item: [[[[[[[[[[item]]]]]]]]]])
    ),
    max_leaves=20,
)


@given(VALUES, st.sampled_from(["", "rows", "password"]), st.sampled_from([64, 200, 2048]))
@settings(max_examples=600, deadline=None)
def test_json_of_plain_values_is_the_same_both_ways(value: Any, name: str, limit: int) -> None:
    """Text, cut, size and digest are the same for any value and any room."""
    short, long = to_json(value, limit, name), _attribute._build_json(value, limit, name)
    assert [getattr(short, field) for field in JsonText.__slots__] == [
        getattr(long, field) for field in JsonText.__slots__
    ]


@pytest.mark.parametrize(
    "value",
    [{"rows": 3}, [1, 2.5, None, True, "done"], {"files": ["a.csv", "b.csv"], "left": {"rows": 0}}, ("a", 1), "a text"],
)
def test_plain_values_are_encoded_fast(value: Any) -> None:
    """Most artifacts are such values."""
    assert simple_json(value, "rows") == json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [{"password": "a"}, {"a": "b=c"}, ("token", 1), {1: 2}, float("nan"), [object()], [[]] * 300, "é", "a" * 3000, {1}],
)
def test_other_values_need_the_general_encoder(value: Any) -> None:
    """These may be a secret, are large, or have no plain type."""
    assert simple_json(value, "rows") is None
    assert simple_json({"rows": 3}, "password") is None


def test_no_method_of_an_unknown_object_is_called() -> None:
    """Such an object may do anything: only the general encoder expects that."""

    class Trap(dict[str, int]):
        def __len__(self) -> int:
            raise SystemExit

    assert simple_json(Trap(), "rows") is None
    assert simple_json([1, Trap()], "rows") is None
