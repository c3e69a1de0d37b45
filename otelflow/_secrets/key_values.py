"""Redact secrets that a text names: ``password=…``, ``"token": "…"``, header lines, URL queries.

A few stems are searched first. Only where one matches, the name is read in both directions within bounds, and then its
value. Other words cost only the search for the stems.
"""

from __future__ import annotations

import re
import string

from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import Replace

__all__ = ["redact_key_values"]

_MAX_NAME_LENGTH = 80
_NAME_CHARACTERS = string.ascii_letters + string.digits + "_.-"
_NAME_END = re.compile(r"[\w.\-]{0,60}")
_SEPARATOR = re.compile(
    r"""(?P<quote>\\{0,8}["'`])?\]?\s{0,4}(?P<sign>=>|:=|==?|:(?!//))\s{0,4}"""  # password=… 'password': …
    r"""|(?P<close>>)"""  # <password>…
    r"""|(?P<tuple>\\{0,8}["']),\s{0,2}b?(?=\\{0,8}["'])"""  # ('password', '…')
    r"""|(?P<space>\s{1,2})(?=[^\s-])"""  # --password …
)
_OPEN_QUOTE = re.compile(r"""(?:[brfuBRFU]{0,2})(\\{0,8}["'`])""")
_BRACKETS = re.compile(r"[\[\](){}]")
_UNQUOTED = re.compile(r"""[^\s"'`<>,;&]*""")
_NEXT_PAIR = re.compile(r"""[,;&](?:\s|\Z|[\w.\-\[\]][\w.\-\[\] ]{0,60}[=:])""")
_REST_OF_LINE = re.compile(r"""[^\r\n"'`\\<>]+""")
_COOKIE = re.compile(r"""[^\s"'`\\<>=;]{1,80}=""")
_PLACEHOLDER = re.compile(
    r"""(?i)(?:\*+|•+|\.{2,3}|…|x{4,}|-+|\[redacted[^\]]*\]|\[?(?:redacted|scrubbed|masked|hidden|filtered)\]?"""
    r"""|<[\w .-]{0,60}>|%\(?\w*\)?[srd]|\$?\{[\w.:!-]{0,60}\}|\$\w+|none|null|nil|true|false|undefined)\Z"""
)
"""Values that stand in place of a secret and are none."""
_SENTENCE_TEXT = (
    "a an and are bad be can cannot can't changed does doesn't empty error expected expired expires failed for format "
    "from has have in incorrect invalid is it length missing must needs no not of ok on or provided refused rejected "
    "required reset revoked set should the this to too unauthorized unexpected unknown unset updated valid was were "
    "with wrong"
)
_SENTENCE_WORDS = frozenset(_SENTENCE_TEXT.split())
"""Words after ``password:`` that begin a sentence about the password."""
_SCHEMES = re.compile(r"(?i)(?:bearer|basic|digest|token|apikey|negotiate|aws4-hmac-sha256|hawk)\s+\S")


def redact_key_values(text: str, replace: Replace, code: bool = False) -> str:
    """Replace the values of secret names in ``text`` by what ``replace`` returns.

    ``code``: ``text`` is source code, where only literals are values.
    """
    lower_text = text.lower()
    if len(lower_text) != len(text):  # the lower case of a letter has two characters: positions would differ
        lower_text = text
    starts = sorted({start for stem in STEMS if stem in lower_text for start in _positions(lower_text, stem)})
    parts: list[str] = []
    rest_start = 0
    for start in starts:
        if start < rest_start:
            continue
        pair = _find_pair(text, start, rest_start, code)
        if pair is None:
            continue
        name, rule, begin, end, template = pair
        secret = text[begin:end]
        parts += (
            text[rest_start:begin],
            template.format(replace(name, secret, f"name {rule}")) if template else secret,
        )
        rest_start = end
    return "".join((*parts, text[rest_start:])) if parts else text


def _positions(lower_text: str, stem: str) -> list[int]:
    """Return each position of ``stem``."""
    positions = []
    position = lower_text.find(stem)
    while position >= 0:
        positions.append(position)
        position = lower_text.find(stem, position + len(stem))
    return positions


def _find_pair(text: str, stem_start: int, rest_start: int, code: bool) -> tuple[str, str, int, int, str] | None:
    """Find the pair of name and value around a stem: name, rule, start and end of the value, template.

    The template formats the replacement. It is empty if the value stays. Return None if there is no such pair.
    """
    name_end = _NAME_END.match(text, stem_start).end()  # type: ignore[union-attr]
    separator = _SEPARATOR.match(text, name_end)
    if separator is None:
        return None
    earliest = max(rest_start, stem_start - _MAX_NAME_LENGTH)
    name_start = earliest + len(text[earliest:stem_start].rstrip(_NAME_CHARACTERS))
    name = text[name_start:name_end].strip("-.")
    rule = secret_in_name(name)
    if not rule or _is_in_placeholder(text, stem_start) or not _has_matching_prefix(text, name_start, separator):
        return None
    begin = separator.end()
    is_sentence = separator["sign"] == ":" and separator["quote"] is None and text[begin - 1 : begin].isspace()
    span = _find_value(text, begin, rule, code, is_sentence)
    if span is None or span[0] >= span[1]:
        return None
    if _PLACEHOLDER.match(text, *span):
        return name, rule, *span, ""
    quote = separator["quote"]
    in_quotes = text[span[0] - 1 : span[0]] in ('"', "'", "`")
    return name, rule, *span, f"{quote}{{}}{quote}" if quote and not in_quotes else "{}"  # JSON stays valid


def _is_in_placeholder(text: str, stem_start: int) -> bool:
    """Return whether the name is part of a placeholder such as ``[redacted:name password]``."""
    start = text.rfind("[redacted:", max(0, stem_start - 60), stem_start)
    return start >= 0 and "]" not in text[start:stem_start]


def _has_matching_prefix(text: str, name_start: int, separator: re.Match[str]) -> bool:
    """Return whether the text before the name fits the separator after it."""
    if separator["close"]:
        return text[name_start - 1 : name_start] == "<"
    if separator["tuple"]:
        before = text[max(0, name_start - 12) : name_start]
        return re.search(r"""\(b?\\{0,8}["']\Z""", before) is not None
    if separator["space"]:
        return text[name_start : name_start + 2] == "--"
    return True


def _find_value(text: str, begin: int, rule: str, code: bool, is_sentence: bool) -> tuple[int, int] | None:
    """Return start and end of the value; None if this is not a value."""
    open_quote = _OPEN_QUOTE.match(text, begin)
    if open_quote is not None:
        return open_quote.end(), _closing_quote(text, open_quote.end(), open_quote[1])
    if code:
        return None
    if text[begin : begin + 1] in ("[", "{", "("):
        return begin, _bracket_end(text, begin)
    if _SCHEMES.match(text, begin) or (rule.startswith("cookie") and _COOKIE.match(text, begin)):
        return begin, _REST_OF_LINE.match(text, begin).end()  # type: ignore[union-attr]
    end = _unquoted_end(text, begin)
    value = text[begin:end]
    if is_sentence and (value.lower().rstrip(".,:;!") in _SENTENCE_WORDS or (rule == "token" and value.isalpha())):
        return None
    if rule == "pwd" and value.startswith(("/", "~")):  # $PWD: the shell's working directory
        return None
    return begin, end


def _unquoted_end(text: str, begin: int) -> int:
    """Return the end of a value without quotes.

    A comma, semicolon or ampersand belongs to the value unless another pair follows.
    """
    end = begin
    while True:
        end = _UNQUOTED.match(text, end).end()  # type: ignore[union-attr]
        if text[end : end + 1] not in (",", ";", "&") or _NEXT_PAIR.match(text, end):
            return end if text.startswith("${", begin) else begin + len(text[begin:end].rstrip(")]}"))
        end += 1


def _closing_quote(text: str, start: int, quote: str) -> int:
    """Return the end of a value that ``quote`` opened; the end of the line if the value is cut.

    ``quote`` has one backslash for each level of quoting.
    """
    mark, depth = quote[-1], len(quote) - 1
    position = text.find(mark, start)
    while position >= 0:
        slashes = 0
        while slashes <= depth and text[position - slashes - 1] == "\\":
            slashes += 1
        if slashes <= depth:
            return position - slashes
        position = text.find(mark, position + 1)
    line_end = text.find("\n", start)
    return len(text) if line_end < 0 else line_end


def _bracket_end(text: str, begin: int) -> int:
    """Return the position after the bracket that closes the one at ``begin``."""
    depth = 0
    for match in _BRACKETS.finditer(text, begin):
        depth += 1 if match[0] in "[({" else -1
        if depth == 0:
            return match.end()
    return len(text)
