"""Secrets that are known by their name within a text: ``password=…``, ``"token": "…"``, header lines, URL queries.

A few stems are looked for first; only where one stands is a name read, backwards and forwards within bounds, and then
its value. What is not a name, or one of nothing secret, costs no more than that.
"""

from __future__ import annotations

import re
import string

from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import Replace

__all__ = ["redact_key_values"]

_MOST_NAME = 80
_NAME = string.ascii_letters + string.digits + "_.-"
_NAME_END = re.compile(r"[\w.\-]{0,60}")
_SEPARATOR = re.compile(
    r"""(?P<quote>\\{0,8}["'`])?\]?\s{0,4}(?P<sign>=>|:=|==?|:(?!//))\s{0,4}"""  # password=… 'password': …
    r"""|(?P<close>>)"""  # <password>…
    r"""|(?P<tuple>\\{0,8}["']),\s{0,2}b?(?=\\{0,8}["'])"""  # ('password', '…')
    r"""|(?P<space>\s{1,2})(?=[^\s-])"""  # --password …
)
_OPEN_QUOTE = re.compile(r"""(?:[brfuBRFU]{0,2})(\\{0,8}["'`])""")
_BRACKETS = re.compile(r"[\[\](){}]")
_PLAIN = re.compile(r"""[^\s"'`<>,;&]*""")
_NEXT_PAIR = re.compile(r"""[,;&](?:\s|\Z|[\w.\-\[\]][\w.\-\[\] ]{0,60}[=:])""")
_LINE = re.compile(r"""[^\r\n"'`\\<>]+""")
_COOKIE = re.compile(r"""[^\s"'`\\<>=;]{1,80}=""")
_HIDDEN = re.compile(
    r"""(?i)(?:\*+|•+|\.{2,3}|…|x{4,}|-+|\[redacted[^\]]*\]|\[?(?:redacted|scrubbed|masked|hidden|filtered)\]?"""
    r"""|<[\w .-]{0,60}>|%\(?\w*\)?[srd]|\$?\{[\w.:!-]{0,60}\}|\$\w+|none|null|nil|true|false|undefined)\Z"""
)
"""What stands in a secret's place, and is none."""
_SENTENCE = (
    "a an and are bad be can cannot can't changed does doesn't empty error expected expired expires failed for format "
    "from has have in incorrect invalid is it length missing must needs no not of ok on or provided refused rejected "
    "required reset revoked set should the this to too unauthorized unexpected unknown unset updated valid was were "
    "with wrong"
)
_WORDS = frozenset(_SENTENCE.split())
"""After ``password:``, the beginning of a sentence about it."""
_SCHEMES = re.compile(r"(?i)(?:bearer|basic|digest|token|apikey|negotiate|aws4-hmac-sha256|hawk)\s+\S")


def redact_key_values(text: str, replace: Replace, code: bool = False) -> str:
    """``text`` with ``replace`` instead of the values of names that hold secrets. ``code``: it is source code, where
    only literals are values."""
    low = text.lower()
    if len(low) != len(text):  # a letter that has no lower case of one character: positions would not fit
        low = text
    starts = sorted({start for stem in STEMS if stem in low for start in _places(low, stem)})
    parts: list[str] = []
    done = 0
    for start in starts:
        if start < done:
            continue
        found = _value_at(text, start, done, code)
        if found is None:
            continue
        name, rule, begin, end, mark = found
        secret = text[begin:end]
        parts += (text[done:begin], mark.format(replace(name, secret, f"name {rule}")) if mark else secret)
        done = end
    return "".join((*parts, text[done:])) if parts else text


def _places(low: str, stem: str) -> list[int]:
    found = []
    position = low.find(stem)
    while position >= 0:
        found.append(position)
        position = low.find(stem, position + len(stem))
    return found


def _value_at(text: str, stem: int, done: int, code: bool) -> tuple[str, str, int, int, str] | None:
    """Name, its kind, where its value begins and ends, and how a mark stands there: empty where it is to stay. None
    where there is no such pair."""
    name_end = _NAME_END.match(text, stem).end()  # type: ignore[union-attr]
    separator = _SEPARATOR.match(text, name_end)
    if separator is None:
        return None
    earliest = max(done, stem - _MOST_NAME)
    name_start = earliest + len(text[earliest:stem].rstrip(_NAME))
    name = text[name_start:name_end].strip("-.")
    rule = secret_in_name(name)
    if not rule or _is_mark(text, stem) or not _fits(text, name_start, separator):
        return None
    begin = separator.end()
    is_sentence = separator["sign"] == ":" and separator["quote"] is None and text[begin - 1 : begin].isspace()
    span = _value(text, begin, rule, code, is_sentence)
    if span is None or span[0] >= span[1]:
        return None
    if _HIDDEN.match(text, *span):
        return name, rule, *span, ""
    quote = separator["quote"]
    in_quotes = text[span[0] - 1 : span[0]] in ('"', "'", "`")
    return name, rule, *span, f"{quote}{{}}{quote}" if quote and not in_quotes else "{}"  # JSON stays JSON


def _is_mark(text: str, stem: int) -> bool:
    """Whether the name stands in a mark of ours: ``[redacted:name password]``."""
    start = text.rfind("[redacted:", max(0, stem - 60), stem)
    return start >= 0 and "]" not in text[start:stem]


def _fits(text: str, name_start: int, separator: re.Match[str]) -> bool:
    """Whether what stands before the name goes with what stands behind it."""
    if separator["close"]:
        return text[name_start - 1 : name_start] == "<"
    if separator["tuple"]:
        before = text[max(0, name_start - 12) : name_start]
        return re.search(r"""\(b?\\{0,8}["']\Z""", before) is not None
    if separator["space"]:
        return text[name_start : name_start + 2] == "--"
    return True


def _value(text: str, begin: int, rule: str, code: bool, is_sentence: bool) -> tuple[int, int] | None:
    opened = _OPEN_QUOTE.match(text, begin)
    if opened is not None:
        return opened.end(), _closing(text, opened.end(), opened[1])
    if code:
        return None
    if text[begin : begin + 1] in ("[", "{", "("):
        return begin, _bracket_end(text, begin)
    if _SCHEMES.match(text, begin) or (rule.startswith("cookie") and _COOKIE.match(text, begin)):
        return begin, _LINE.match(text, begin).end()  # type: ignore[union-attr]
    end = _plain_end(text, begin)
    value = text[begin:end]
    if is_sentence and (value.lower().rstrip(".,:;!") in _WORDS or (rule == "token" and value.isalpha())):
        return None
    if rule == "pwd" and value.startswith(("/", "~")):  # the shell's working directory
        return None
    return begin, end


def _plain_end(text: str, begin: int) -> int:
    """Where a value without quotes ends: a comma, semicolon or ampersand belongs to it unless another pair follows."""
    end = begin
    while True:
        end = _PLAIN.match(text, end).end()  # type: ignore[union-attr]
        if text[end : end + 1] not in (",", ";", "&") or _NEXT_PAIR.match(text, end):
            return end if text.startswith("${", begin) else begin + len(text[begin:end].rstrip(")]}"))
        end += 1


def _closing(text: str, start: int, quote: str) -> int:
    """Where the value ends that ``quote`` opened, which has as many backslashes as there are levels of quoting; the end
    of the line where it is cut off."""
    sign, depth = quote[-1], len(quote) - 1
    position = text.find(sign, start)
    while position >= 0:
        slashes = 0
        while slashes <= depth and text[position - slashes - 1] == "\\":
            slashes += 1
        if slashes <= depth:
            return position - slashes
        position = text.find(sign, position + 1)
    line_end = text.find("\n", start)
    return len(text) if line_end < 0 else line_end


def _bracket_end(text: str, begin: int) -> int:
    depth = 0
    for match in _BRACKETS.finditer(text, begin):
        depth += 1 if match[0] in "[({" else -1
        if depth == 0:
            return match.end()
    return len(text)
