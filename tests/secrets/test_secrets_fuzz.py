"""Secrets put anywhere by chance: none is left, nothing else changes, and no text raises or takes long."""

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
"""Text in which no pair begins, and no quote or bracket that a value could be in."""
PIECES = st.sampled_from(
    ["password", "token", "=", ":", " ", '"', "'", "\\", "\\n", "{", "}", "[", "]", "(", ")", "<", ">", "--", "://",
     "@", "eyJ", ".", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "4111", "Bearer ", "Basic ", "sk-",
     ",", ";", "&", "[redacted:jwt]", "\n", "é", "\ud800", "\x00", "a" * 40, "7" * 16]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=60).map("".join)


@given(NEUTRAL, NAMES, st.sampled_from(["=", ": ", " = ", "='{}'", '": "{}"', "=>"]), WORD, NEUTRAL)
def test_a_secret_in_a_pair_is_not_left(before: str, name: str, form: str, secret: str, behind: str) -> None:
    """Whatever stands around it: what follows is kept, too."""
    pair = f"{name}{form}" if "{}" in form else f"{name}{form}{{}}"
    text = f"{before} {pair.format(secret)} {behind}"
    made = redact(text)
    assert secret not in made
    assert made.endswith(redact(behind))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(string.ascii_lowercase + " ", max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "rows", "n"]), inner, max_size=3),
    max_leaves=12,
)


def hidden_at_a_leaf(value: Any, name: str, secret: str) -> Any:
    """``value`` with the secret under ``name`` at its deepest first place."""
    if isinstance(value, list) and value:
        return [hidden_at_a_leaf(value[0], name, secret), *value[1:]]
    if isinstance(value, dict) and value:
        first = next(iter(value))
        return {**value, first: hidden_at_a_leaf(value[first], name, secret)}
    return {name: secret, "next": value}


@given(JSON, NAMES, WORD, st.integers(0, 3))
def test_a_secret_at_any_depth_of_json_is_not_left(value: Any, name: str, secret: str, levels: int) -> None:
    """As objects, and as text that was written as JSON again and again; without one, all of it stays."""
    assert json.loads(to_json(value).text) == value
    with_secret: Any = hidden_at_a_leaf(value, name, secret)
    assert secret not in to_json(with_secret).text
    text = json.dumps(with_secret)
    for _ in range(levels):
        text = json.dumps({"body": text})
    made = redact(text)
    assert secret not in made
    for _ in range(levels):
        made = json.loads(made)["body"]
    assert json.loads(made) == json.loads(
        json.dumps(with_secret).replace(secret, f"[redacted:name {secret_in_name(name)}]")
    )


@given(HOSTILE)
@example("'" * 60)
@example('token="' * 20)
@settings(max_examples=400)
def test_no_text_raises(text: str) -> None:
    """Whatever it is: every way in, and the result is what would come of it again."""
    made = redact(text)
    redact(text, code=True)
    redact_registered(text)
    looks_secret("a", text)
    secret_in_name(text)
    to_attribute(text or "a", text)
    for shown, _ in (scrub_and_truncate(text, 64), to_attribute("a", text)):
        shown.encode()
    assert len(scrub_and_truncate(text, 64)[0].encode()) <= 64
    assert len(made) <= len(text) * 12 + 40


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_an_ordinary_text_stays(text: str) -> None:
    """Where there is no name, and nothing that looks like a key, nothing changes."""
    plain = "".join(letter for letter in text if not (letter.isascii() and letter.isalnum()))
    assert redact(plain) == plain
    assert scrub_long(plain) == plain


@given(st.text(max_size=400), st.integers(64, 300), st.integers(0, 50))
def test_what_fits_is_what_was_cut(text: str, limit: int, left_out: int) -> None:
    """A text without secrets is cut the same way with and without a search."""
    assert scrub_and_truncate(text, limit) == truncate(text, limit) or redact(text) != text
    assert len(truncate(text, limit, left_out)[0].encode()) <= limit


@given(st.integers(10**12, 10**19 - 1))
def test_a_number_is_a_card_by_its_check_digit_only(number: int) -> None:
    """What is replaced has the right check digit, and begins as an issuer's numbers do; a time in ms to ns never."""
    digits = str(number)
    is_replaced = redact(digits) != digits
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    is_right = sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0
    assert not is_replaced or (is_right and digits[0] in "23456")


# --- what is known beforehand to be harmless --------------------------------------------------------------------------


ALL_SHAPES = (*patterns._SHAPES, *patterns._SHORT)


def like(shape: Any) -> st.SearchStrategy[str]:
    """What a rule is after."""
    if shape.rule == "basic":
        return st.sampled_from(["asic dXNlcjpwYXNz", "asic  YTpiYzpkZWZn"])
    rest = re.sub(r"\(\?<?[=!](?:[^()\[\]]|\[[^\]]*\])*\)", "", shape.rest)
    return st.from_regex(re.compile(rest, re.ASCII), fullmatch=True).map(lambda text: shape.literal + text)


SHAPED = st.one_of([like(shape) for shape in ALL_SHAPES])
ALMOST = st.builds(lambda text, end: text[: len(text) - end], SHAPED, st.integers(0, 3))
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
NEAR = st.one_of(
    ALMOST,
    CARDS,
    PIECES,
    st.sampled_from([*STEMS, *(shape.literal for shape in ALL_SHAPES)]),
    st.sampled_from(["=", ": ", "--", " ", "-", "/", "<", ">", "', '", '"', "x" * 15, "x" * 16, "9" * 12, "1 ", "ß"]),
    st.text(string.ascii_letters + " .,-/", max_size=8),
)


def the_long_way(text: str, code: bool) -> str:
    known, patterns.is_harmless = patterns.is_harmless, lambda *_, **__: False
    try:
        return redact(text, code=code)
    finally:
        patterns.is_harmless = known


@given(st.lists(NEAR, max_size=5).map("".join), st.booleans())
@settings(max_examples=500, deadline=None)
def test_the_short_way_leaves_only_what_the_long_way_leaves(text: str, code: bool) -> None:
    """What is held to be harmless at a glance is so by every rule; a secret is not, and is replaced the same."""
    assert redact(text, code=code) == (cleaned := the_long_way(text, code))
    if is_harmless(text) or is_clean(text):
        assert cleaned == text
    if is_clean(text):
        assert scrub_and_truncate(text) == (text, False) == truncate(text)


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=lambda shape: shape.literal)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_no_form_is_overlooked_at_a_glance(shape: Any, data: st.DataObject) -> None:
    """Whatever stands around it: each rule is drawn from by itself, as chance alone would hardly find some."""
    before, behind = (
        data.draw(st.sampled_from(["", " ", "1", "\\n", "b", "B", "é "])),
        data.draw(st.sampled_from(["", " x"])),
    )
    text = f"{before}{data.draw(like(shape))}{behind}"
    assert not is_harmless(text) or the_long_way(text, False) == text
    assert not is_clean(text) or the_long_way(text, False) == text


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
def test_no_secret_without_long_words_is_overlooked_at_a_glance(secret: str) -> None:
    """Those that chance hardly finds: thirteen digits with what may stand between them, words of a letter each."""
    for text in (secret, f"so {secret}", f"{secret} then"):
        assert the_long_way(text, False) != text
        assert not is_clean(text)


def test_what_programs_say_is_harmless_at_a_glance() -> None:
    """Else the short way would be of no use; and what a secret could be in is looked at."""
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


def test_a_rule_of_the_user_s_own_looks_at_every_text() -> None:
    """Nothing is harmless then."""
    assert is_clean("added")
    scrub.use_callback(lambda name, text, rule: "gone" if text == "added" else None)
    try:
        assert not is_clean("added")
        assert scrub_long("added") == "gone"
    finally:
        scrub.use_callback(None)


# --- the short way of what is plain -----------------------------------------------------------------------------------

WORDS = (
    st.text(string.ascii_lowercase + " .,-_/", max_size=14) | NEAR | st.text(max_size=6) | st.text("ab", max_size=70)
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
    """Text, whether something is left out, size and digest: of any value, with any room."""
    short, long = to_json(value, limit, name), _attribute._to_json(value, limit, name)
    assert [getattr(short, fact) for fact in JsonText.__slots__] == [getattr(long, fact) for fact in JsonText.__slots__]


@pytest.mark.parametrize(
    "value",
    [{"rows": 3}, [1, 2.5, None, True, "done"], {"files": ["a.csv", "b.csv"], "left": {"rows": 0}}, ("a", 1), "a text"],
)
def test_plain_values_take_the_short_way(value: Any) -> None:
    """What most artifacts are."""
    assert simple_json(value, "rows") == json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [{"password": "a"}, {"a": "b=c"}, ("token", 1), {1: 2}, float("nan"), [object()], [[]] * 300, "é", "a" * 3000, {1}],
)
def test_all_else_is_looked_at_more_closely(value: Any) -> None:
    """Whatever may be a secret, large, or no plain value."""
    assert simple_json(value, "rows") is None
    assert simple_json({"rows": 3}, "password") is None


def test_nothing_is_asked_of_an_object_that_is_not_plain() -> None:
    """It may do anything: that is for the way that expects it to."""

    class Trap(dict[str, int]):
        def __len__(self) -> int:
            raise SystemExit

    assert simple_json(Trap(), "rows") is None
    assert simple_json([1, Trap()], "rows") is None
