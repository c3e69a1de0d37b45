"""Secrets that are known by their form: keys with a prefix, JSON Web Tokens, private keys, cards, URL passwords.

Each pattern begins with a literal, which is looked for first; none has a repetition within a repetition, nor one that
what follows could make it try again: the time is linear, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from string import ascii_letters, digits

__all__ = ["SHORTEST", "Replace", "is_harmless", "redact_patterns"]

SHORTEST = 11
"""No form of secret without ``:`` and ``=`` has fewer characters: such values need no search."""

Replace = Callable[[str, str, str], str]
"""What is to stand in place of a secret: gets its name (may be empty), the secret, and the rule that found it."""


class _Pattern:
    __slots__ = ("literal", "not_behind", "rest", "rule", "sign")

    def __init__(self, rule: str, literal: str, rest: str, not_behind: str = "A-Za-z0-9", sign: str = "") -> None:
        self.rule = rule
        self.literal = literal
        """Every match begins with it."""
        self.rest = rest
        """Pattern of what follows. The first group, where there is one, is the secret: else all is."""
        self.not_behind = not_behind
        """Characters that the literal does not stand behind; empty: it may stand anywhere."""
        self.sign = sign
        """A character that is in every match, where the literal has no such: most texts lack it."""


_SHAPES = [
    _Pattern("jwt", "eyJ", r"[\w-]{8,}\.{1,2}[\w-]*(?:\.[\w-]+){0,3}", r"\w-", "."),
    _Pattern("aws key", "AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Pattern("aws key", "ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Pattern("gcp key", "AIza", r"[\w-]{35}"),
    _Pattern("gcp key", "ya29.", r"[\w.-]{16,}(?<!\.)"),
    _Pattern("gcp key", "GOCSPX-", r"[\w-]{20,}"),
    _Pattern("gcp key", "1//0", r"[\w-]{30,}"),
    _Pattern("azure key", "Q~", r"(?<=\dQ~)[\w.~-]{31,}", ""),
    _Pattern("github token", "gh", r"[pousr]_[A-Za-z0-9]{36,}", sign="_"),
    _Pattern("github token", "github_pat_", r"\w{22,}"),
    _Pattern("gitlab token", "gl", r"(?:pat|dt|rt|ptt|cbt|oas|soat|ffct|ft|imt|agent)-[\w-]{20,}", sign="-"),
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
    _Pattern("api key", "shp", r"(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", sign="_"),
    _Pattern("api key", "dapi", r"[a-f0-9]{32}"),
    _Pattern("api key", "hvs.", r"[\w-]{20,}"),
    _Pattern("api key", "glsa_", r"\w{20,}"),
    _Pattern("api key", "dckr_pat_", r"[\w-]{20,}"),
    _Pattern("api key", "lin_api_", r"\w{32,}"),
    _Pattern("api key", ":AA", r"(?<=\d:AA)[\w-]{33}", ""),  # a Telegram bot's
    _Pattern("api key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
]
"""Those that have 16 or more letters, digits and ``_`` in a row."""

_SHORT = [
    _Pattern("slack token", "xox", r"[a-z]-[\w-]{10,}", sign="-"),
    _Pattern("slack token", "xapp-", r"[\w-]{10,}"),
    _Pattern("slack token", "hooks.slack.com/", r"(?:services|workflows|triggers)/([\w/]{16,})", ""),
    _Pattern("url password", "://", r'[^/\s:@"]{0,256}:([^/\s"]{1,256})@', ""),
    _Pattern("url password", "://", r'([^/\s:@"]{20,256})@', ""),
    _Pattern("bearer", "earer", r"\s{1,4}([\w.~+/=-]{16,})", ""),
    _Pattern("basic", "asic ", r"\s{0,3}([A-Za-z0-9+/]{12,}={0,2})", ""),
]


_Groups = list[tuple[str, list[tuple[str, _Pattern]]]]


def _by_sign(shapes: list[_Pattern]) -> _Groups:
    """Shapes with their literals by a character that they need: a text is asked for one character before for words."""
    groups: dict[str, list[tuple[str, _Pattern]]] = {}
    for shape in shapes:
        sign = shape.sign or next((sign for sign in "_-~/:. " if sign in shape.literal), "")
        groups.setdefault(sign, []).append((shape.literal, shape))
    return list(groups.items())


_LONG_GROUPS, _SHORT_GROUPS = _by_sign(_SHAPES), _by_sign(_SHORT)
_TOKENS = bytes.maketrans(f"{ascii_letters}{digits}_".encode(), b"x" * 63)
_DIGITS = bytes.maketrans(digits.encode(), b"0" * 10)
_LONG_TOKEN, _LONG_NUMBER = b"x" * 16, b"0" * 13


def _kind(code: int) -> str:
    """``x`` for a letter and ``_``, ``0`` for a digit, a space for what may stand between the digits of one number,
    ``!`` for what may stand between a name and its value, and for what begins a colour, which hides one."""
    letter = chr(code)
    if code > 127:
        return "."
    return "0" if letter.isdigit() else "x" if letter.isalnum() or letter == "_" else _OTHERS.get(letter, ".")


_OTHERS = {" ": " ", "-": " ", **dict.fromkeys("=:<'\"\x1b", "!")}
_KINDS = "".join(map(_kind, range(256))).encode()


def is_harmless(text: str, but_for_pairs: bool = False) -> bool:
    """Whether ``text`` has no secret for certain, neither of one of these forms nor behind a name; False says nothing.
    ``but_for_pairs``: what stands behind names is looked for elsewhere.

    This is all that is done to most texts, so it is one call, and all within it is of C.
    """
    seen = text.encode("ascii", "replace").translate(_KINDS).decode("latin-1")
    if "!" in seen and not (but_for_pairs and "://" not in text):
        return False
    if "0" in seen:
        if seen.count("0") > 12 and "0000000000000" in seen.replace(" ", ""):
            return False
        seen = seen.replace("0", "x")
    return not (
        "xxxxxxxxxxxxxxxx" in seen
        or ("-" in text and ("--" in text or "xox" in text or "xapp-" in text))
        or ("/" in text and "hooks." in text)
        or "earer" in text
        or "asic " in text
    )


@cache
def _pattern(shape: _Pattern) -> re.Pattern[str]:
    literal = re.escape(shape.literal)
    start = ""
    if shape.not_behind:  # behind an escaped line end, or a percent-encoded character, a secret may begin as well
        start = rf"(?:(?<![{shape.not_behind}]{literal})|(?<=\\[nrtb]{literal})|(?<=%[0-9A-Fa-f][0-9A-Fa-f]{literal}))"
    return re.compile(literal + start + shape.rest)


def redact_patterns(text: str, replace: Replace) -> str:
    """``text`` with ``replace`` instead of each secret that is known by its form."""
    if is_harmless(text, but_for_pairs=True):
        return text
    data = text.encode("ascii", "replace")
    if data.translate(_TOKENS).find(_LONG_TOKEN) >= 0:
        text = _by_literal(text, _LONG_GROUPS, replace)
    if "-" in text and "-----BEGIN " in text:
        text = _without_private_keys(text, replace)
    text = _by_literal(text, _SHORT_GROUPS, replace)
    if data.translate(_DIGITS, b" -").find(_LONG_NUMBER) >= 0:
        text = _without_cards(text, replace)
    return text


def _by_literal(text: str, groups: _Groups, replace: Replace) -> str:
    for sign, shapes in groups:
        if sign in text:
            for literal, shape in shapes:
                if literal in text:
                    text = _replaced(text, shape, replace)
    return text


def _replaced(text: str, shape: _Pattern, replace: Replace) -> str:
    def made(match: re.Match[str]) -> str:
        secret = match[match.lastindex or 0]
        if shape.rule == "basic" and not _is_basic(secret):
            return match[0]
        if shape.rule == "url password" and secret.startswith(("[redacted", "*")):
            return match[0]
        start, end = match.span(match.lastindex or 0)
        before, behind = match[0][: start - match.start()], match[0][end - match.start() :]
        return f"{before}{replace('', secret, shape.rule)}{behind}"

    return _pattern(shape).sub(made, text)


def _is_basic(encoded: str) -> bool:
    """Whether it is Base64 of ``user:password``: "Basic authentication" is not."""
    from binascii import Error, a2b_base64

    try:
        return b":" in a2b_base64(encoded.rstrip("=")[: len(encoded) // 4 * 4])
    except Error:
        return False


def _without_private_keys(text: str, replace: Replace) -> str:
    """From ``-----BEGIN … PRIVATE KEY`` to the end of its ``-----END`` line, or of the text where that is cut off."""
    parts: list[str] = []
    done = 0
    for match in re.finditer(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY", text):
        if match.start() < done:
            continue
        end = text.find("-----END ", match.end())
        last = -1 if end < 0 else text.find("-----", end + 9)
        stop = len(text) if last < 0 else last + 5
        parts += (text[done : match.start()], replace("", text[match.start() : stop], "private key"))
        done = stop
    return "".join((*parts, text[done:]))


_CARD = (
    r"4\d{12}(?!\d)"
    r"|[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1?\d{1,3})?(?!\d)"
    r"|3\d{3}([ -]?)\d{6}\2\d{4,5}(?!\d)"
)
_ISSUERS = (
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12,15}|35[2-8]\d{13}|62\d{14,17}|(?:5018|5020|5038|5893|6304|6759|676[123])\d{8,15}"
)
"""Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro. A time in ms, µs, ns begins with 1."""


@cache
def _card_patterns() -> tuple[Callable[..., re.Match[str] | None], Callable[[str], re.Match[str] | None]]:
    return re.compile(_CARD).search, re.compile(_ISSUERS).fullmatch


def _without_cards(text: str, replace: Replace) -> str:
    search, is_issued = _card_patterns()
    parts: list[str] = []
    done = position = 0
    while True:
        match = search(text, position)
        if match is None:
            return "".join((*parts, text[done:]))
        start, end = match.span()
        digits = match[0].replace(" ", "").replace("-", "")
        if _stands_alone(text, start, end) and is_issued(digits) and _has_checksum(digits):
            parts += (text[done:start], replace("", match[0], "card number"))
            done = position = end
        else:
            position = start + 1


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether it is no part of a longer number, identifier, or fraction."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    is_escape = re.match(r"\\[nrtb]", before)
    return (is_escape or not re.search(r"\w$|\d[.-]$", before)) and not re.match(r"\w|[.-]\w", behind)


def _has_checksum(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: from the right, every second digit doubled."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(int(digit) * 2, 10)) for digit in digits[-2::-2])
    return total % 10 == 0
