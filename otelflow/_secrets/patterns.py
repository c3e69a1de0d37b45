"""Redact secrets that have a known form: keys with a prefix, JSON Web Tokens, private keys, cards, URL passwords.

Each pattern begins with a literal, which is searched first. No pattern nests repetitions, and no later character can
make a pattern backtrack. So the time is linear for any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from string import ascii_letters, digits

__all__ = ["MIN_SECRET_LENGTH", "Replace", "is_harmless", "redact_patterns"]

MIN_SECRET_LENGTH = 11
"""The shortest form of a secret without ``:`` and ``=``, in characters. Shorter texts without these need no search."""

Replace = Callable[[str, str, str], str]
"""Returns the replacement of a secret. Its arguments: the name (may be empty), the secret, the rule that matched."""


class _Pattern:
    """A form of secrets: a literal that every match begins with, and a regular expression for the rest."""

    __slots__ = ("literal", "marker", "not_after", "rest", "rule")

    def __init__(self, rule: str, literal: str, rest: str, not_after: str = "A-Za-z0-9", marker: str = "") -> None:
        self.rule = rule
        self.literal = literal
        """Every match begins with this text."""
        self.rest = rest
        """Regular expression for what follows the literal. The secret is its first group, or the whole match."""
        self.not_after = not_after
        """Characters that must not precede the literal. Empty: any character may."""
        self.marker = marker
        """A rare character that every match contains, for a literal that has none itself. Most texts lack it."""


_LONG_PATTERNS = [
    _Pattern("jwt", "eyJ", r"[\w-]{8,}\.{1,2}[\w-]*(?:\.[\w-]+){0,3}", r"\w-", "."),
    _Pattern("aws key", "AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Pattern("aws key", "ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Pattern("gcp key", "AIza", r"[\w-]{35}"),
    _Pattern("gcp key", "ya29.", r"[\w.-]{16,}(?<!\.)"),
    _Pattern("gcp key", "GOCSPX-", r"[\w-]{20,}"),
    _Pattern("gcp key", "1//0", r"[\w-]{30,}"),
    _Pattern("azure key", "Q~", r"(?<=\dQ~)[\w.~-]{31,}", ""),
    _Pattern("github token", "gh", r"[pousr]_[A-Za-z0-9]{36,}", marker="_"),
    _Pattern("github token", "github_pat_", r"\w{22,}"),
    _Pattern("gitlab token", "gl", r"(?:pat|dt|rt|ptt|cbt|oas|soat|ffct|ft|imt|agent)-[\w-]{20,}", marker="-"),
    _Pattern("stripe key", "sk_", r"(?:live|test)_\w{10,}"),
    _Pattern("stripe key", "rk_", r"(?:live|test)_\w{10,}"),
    _Pattern("stripe key", "whsec_", r"\w{16,}"),
    _Pattern("api key", "sk-", r"(?:(?=[\w-]{0,60}[0-9A-Z])[\w-]{16,}|[a-z]{16,})"),
    _Pattern("api key", "gsk_", r"\w{20,}"),
    _Pattern("api key", "hf_", r"[A-Za-z0-9]{30,}"),
    _Pattern("api key", "npm_", r"[A-Za-z0-9]{36,}"),
    _Pattern("api key", "pypi-", r"[\w-]{16,}"),
    _Pattern("api key", "SG.", r"[\w-]{16,64}\.[\w-]{16,}"),
    _Pattern("api key", "dop_v1_", r"[a-f0-9]{64}"),
    _Pattern("api key", "shp", r"(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", marker="_"),
    _Pattern("api key", "dapi", r"[a-f0-9]{32}"),
    _Pattern("api key", "hvs.", r"[\w-]{20,}"),
    _Pattern("api key", "glsa_", r"\w{20,}"),
    _Pattern("api key", "dckr_pat_", r"[\w-]{20,}"),
    _Pattern("api key", "lin_api_", r"\w{32,}"),
    _Pattern("api key", ":AA", r"(?<=\d:AA)[\w-]{33}", ""),  # Telegram bot
    _Pattern("api key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
]
"""Patterns whose matches have at least 16 letters, digits and ``_`` in a row."""

_SHORT_PATTERNS = [
    _Pattern("slack token", "xox", r"[a-z]-[\w-]{10,}", marker="-"),
    _Pattern("slack token", "xapp-", r"[\w-]{10,}"),
    _Pattern("slack token", "hooks.slack.com/", r"(?:services|workflows|triggers)/([\w/]{16,})", ""),
    _Pattern("url password", "://", r'[^/\s:@"]{0,256}:([^/\s"]{1,256})@', ""),
    _Pattern("url password", "://", r'([^/\s:@"]{20,256})@', ""),
    _Pattern("bearer", "earer", r"\s{1,4}([\w.~+/=-]{16,})", ""),
    _Pattern("basic", "asic ", r"\s{0,3}([A-Za-z0-9+/]{12,}={0,2})", ""),
]


_Groups = list[tuple[str, list[tuple[str, _Pattern]]]]


def _group_by_marker(patterns: list[_Pattern]) -> _Groups:
    """Group patterns by a character that they need: searching one character is cheaper than searching words."""
    groups: dict[str, list[tuple[str, _Pattern]]] = {}
    for pattern in patterns:
        marker = pattern.marker or next((marker for marker in "_-~/:. " if marker in pattern.literal), "")
        groups.setdefault(marker, []).append((pattern.literal, pattern))
    return list(groups.items())


_LONG_GROUPS, _SHORT_GROUPS = _group_by_marker(_LONG_PATTERNS), _group_by_marker(_SHORT_PATTERNS)
_WORD_TABLE = bytes.maketrans(f"{ascii_letters}{digits}_".encode(), b"x" * 63)
_DIGIT_TABLE = bytes.maketrans(digits.encode(), b"0" * 10)
_LONG_WORD, _LONG_NUMBER = b"x" * 16, b"0" * 13


def _character_class(code: int) -> str:
    """Return the class of a character code, for :func:`is_harmless`.

    ``x``: a letter or ``_``. ``0``: a digit. A space: a character that may separate the digits of one number. ``!``: a
    character that may separate a name from its value, or ESC, as terminal colours can hide a separator.
    """
    letter = chr(code)
    if code > 127:
        return "."
    return "0" if letter.isdigit() else "x" if letter.isalnum() or letter == "_" else _OTHER_CLASSES.get(letter, ".")


_OTHER_CLASSES = {" ": " ", "-": " ", **dict.fromkeys("=:<'\"\x1b", "!")}
_CLASSES = "".join(map(_character_class, range(256))).encode()


def is_harmless(text: str, ignore_pairs: bool = False) -> bool:
    """Return True if ``text`` certainly has no secret, neither of a known form nor after a name. False means unknown.

    ``ignore_pairs``: do not check for values after names; the caller searches for these.

    Most texts get this check and no other. So it is one call, and everything in it is implemented in C.
    """
    classes = text.encode("ascii", "replace").translate(_CLASSES).decode("latin-1")
    if "!" in classes and not (ignore_pairs and "://" not in text):
        return False
    if "0" in classes:
        if classes.count("0") > 12 and "0000000000000" in classes.replace(" ", ""):
            return False
        classes = classes.replace("0", "x")
    return not (
        "xxxxxxxxxxxxxxxx" in classes
        or ("-" in text and ("--" in text or "xox" in text or "xapp-" in text))
        or ("/" in text and "hooks." in text)
        or "earer" in text
        or "asic " in text
    )


@cache
def _compile(pattern: _Pattern) -> re.Pattern[str]:
    literal = re.escape(pattern.literal)
    start = ""
    if pattern.not_after:  # a secret may also begin after an escaped line end or a percent-encoded character
        start = rf"(?:(?<![{pattern.not_after}]{literal})|(?<=\\[nrtb]{literal})|(?<=%[0-9A-Fa-f][0-9A-Fa-f]{literal}))"
    return re.compile(literal + start + pattern.rest)


def redact_patterns(text: str, replace: Replace) -> str:
    """Replace each secret of a known form in ``text`` by what ``replace`` returns."""
    if is_harmless(text, ignore_pairs=True):
        return text
    data = text.encode("ascii", "replace")
    if data.translate(_WORD_TABLE).find(_LONG_WORD) >= 0:
        text = _redact_groups(text, _LONG_GROUPS, replace)
    if "-" in text and "-----BEGIN " in text:
        text = _redact_private_keys(text, replace)
    text = _redact_groups(text, _SHORT_GROUPS, replace)
    if data.translate(_DIGIT_TABLE, b" -").find(_LONG_NUMBER) >= 0:
        text = _redact_cards(text, replace)
    return text


def _redact_groups(text: str, groups: _Groups, replace: Replace) -> str:
    for marker, patterns in groups:
        if marker in text:
            for literal, pattern in patterns:
                if literal in text:
                    text = _redact_matches(text, pattern, replace)
    return text


def _redact_matches(text: str, pattern: _Pattern, replace: Replace) -> str:
    def replacement(match: re.Match[str]) -> str:
        secret = match[match.lastindex or 0]
        if pattern.rule == "basic" and not _is_basic_credentials(secret):
            return match[0]
        if pattern.rule == "url password" and secret.startswith(("[redacted", "*")):
            return match[0]
        start, end = match.span(match.lastindex or 0)
        prefix, suffix = match[0][: start - match.start()], match[0][end - match.start() :]
        return f"{prefix}{replace('', secret, pattern.rule)}{suffix}"

    return _compile(pattern).sub(replacement, text)


def _is_basic_credentials(encoded: str) -> bool:
    """Return whether ``encoded`` is Base64 of ``user:password``. "Basic authentication" looks alike."""
    from binascii import Error, a2b_base64

    try:
        return b":" in a2b_base64(encoded.rstrip("=")[: len(encoded) // 4 * 4])
    except Error:
        return False


def _redact_private_keys(text: str, replace: Replace) -> str:
    """Replace each private key, from ``-----BEGIN`` to the end of its ``-----END`` line, or of a text that is cut."""
    parts: list[str] = []
    rest_start = 0
    for match in re.finditer(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY", text):
        if match.start() < rest_start:
            continue
        end = text.find("-----END ", match.end())
        last = -1 if end < 0 else text.find("-----", end + 9)
        stop = len(text) if last < 0 else last + 5
        parts += (text[rest_start : match.start()], replace("", text[match.start() : stop], "private key"))
        rest_start = stop
    return "".join((*parts, text[rest_start:]))


_CARD = (
    r"4\d{12}(?!\d)"
    r"|[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1?\d{1,3})?(?!\d)"
    r"|3\d{3}([ -]?)\d{6}\2\d{4,5}(?!\d)"
)
_ISSUERS = (
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12,15}|35[2-8]\d{13}|62\d{14,17}|(?:5018|5020|5038|5893|6304|6759|676[123])\d{8,15}"
)
"""Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro.

None begins with 1, as the current time in ms, µs and ns does.
"""


@cache
def _card_patterns() -> tuple[Callable[..., re.Match[str] | None], Callable[[str], re.Match[str] | None]]:
    return re.compile(_CARD).search, re.compile(_ISSUERS).fullmatch


def _redact_cards(text: str, replace: Replace) -> str:
    search, is_issued = _card_patterns()
    parts: list[str] = []
    rest_start = position = 0
    while True:
        match = search(text, position)
        if match is None:
            return "".join((*parts, text[rest_start:]))
        start, end = match.span()
        digits = match[0].replace(" ", "").replace("-", "")
        if _is_separate_number(text, start, end) and is_issued(digits) and _has_valid_checksum(digits):
            parts += (text[rest_start:start], replace("", match[0], "card number"))
            rest_start = position = end
        else:
            position = start + 1


def _is_separate_number(text: str, start: int, end: int) -> bool:
    """Return whether the match is not a part of a longer number, identifier or fraction."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    is_escape = re.match(r"\\[nrtb]", before)
    return (is_escape or not re.search(r"\w$|\d[.-]$", before)) and not re.match(r"\w|[.-]\w", after)


def _has_valid_checksum(digits: str) -> bool:
    """Check the last digit as in ISO/IEC 7812-1, annex B: from the right, every second digit is doubled."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(int(digit) * 2, 10)) for digit in digits[-2::-2])
    return total % 10 == 0
