"""Which names are likely to hold a secret: ``db.password`` and ``X-Api-Key``; not ``token_count`` and ``author``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache

__all__ = ["STEMS", "add_names", "allow_names", "is_allowed", "secret_in_name"]

_LONGEST_NAME = 128


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split(", " if "," in text else None))


_STRONG = _set(
    "password passwords passwd passphrase passcode passwort kennwort secret secrets credential credentials apikey "
    "apikeys privatekey secretkey accesskey accesstoken authtoken refreshtoken jwt htpasswd"
)
"""A secret wherever they stand in a name: ``password_2``, ``secret_access_key``."""
_STRONG_PAIRS = _set(
    "api key, api keys, private key, secret key, access key, signing key, encryption key, master key, account key, "
    "shared key, ssh key, auth key, deploy key, license key, access token, auth token, refresh token, bearer token, "
    "session token, security token, secret id"
)
_WEAK = _set("token pwd cookie cookies authorization sessionid sessid jsessionid phpsessid csrf xsrf otp cvv cvc sig")
"""A secret at the end of a name only: ``github_token``, and not ``token_bucket``."""
_WEAK_PAIRS = _set("session id, connect sid, amz signature")
_ENDINGS = (
    "password", "passwd", "passphrase", "apikey", "secretkey", "privatekey", "accesskey", "secret", "credentials",
    "sessionid", "sessid", "userpwd",
)  # fmt: skip
"""Ends of words that are run together: ``PGPASSWORD``. And ``token``, at the end of a name: ``csrftoken``."""
_OF_ACCOUNTS = _set("db smtp user ftp mail mysql pg redis proxy admin root login email my imap ldap")
"""What makes a secret of ``pass`` behind it: ``db_pass``."""

_HARMLESS_BEHIND = _set(
    "age arn at attempt attempts budget change changed changes char chars check checker count counts created date days "
    "domain enabled disabled endpoint error errors exception exists expired expires expiration expiry field fields "
    "file filename form format found generator handler hint id ids in index input is len length lifetime limit limits "
    "location manager max message min minutes mismatch missing name names ns ok optional page path policy present "
    "prompt provider quality ref required reset rotated rotation rules scope scopes seconds service set size source "
    "status store strength ttl type types updated uri url usage valid validation validator version"
)
"""Behind the name of a secret, these make it a fact about one: ``password_length``, ``secretArn``."""
_HARMLESS_BEFORE = _set(
    "next page pagination continuation cursor sync eos bos pad unk sep cls mask stop special start end per prompt "
    "completion input output total max min num avg first last idempotency unexpected invalid"
)
"""Before ``token``, these mean a piece of text, or a place in a list."""
_FORMS = _set("value header raw text str string old new current b64 base64 encoded confirm confirmation")
"""Behind a weak name, these still hold the secret itself."""

STEMS = [
    "pass", "pwd", "secret", "token", "authoriz", "cookie", "cred", "key", "kennwort", "sess", "connect.sid", "otp",
    "cvv", "cvc", "csrf", "xsrf", "jwt", "sig",
]  # fmt: skip
"""Each name that is meant has one of these in it, in lower case: so a text can be searched for names quickly."""

_own: dict[tuple[str, ...], str] = {}
_allowed: set[tuple[str, ...]] = set()


@cache
def _word() -> re.Pattern[str]:
    return re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(name: str) -> tuple[str, ...]:
    if len(name) > _LONGEST_NAME:  # a hostile one: what it means is said at its end
        name = name[-_LONGEST_NAME:]
    return tuple(word.lower() for word in _word().findall(name))


def add_names(names: Iterable[str]) -> None:
    """Names of the user's own that hold secrets, in any spelling: ``patient_id`` is ``patientId`` and ``Patient-ID``,
    too, and what ends in it."""
    for name in names:
        words = _words(name)
        if words:
            _own[words] = "_".join(words)
            STEMS.append(words[0])
    secret_in_name.cache_clear()


def allow_names(names: Iterable[str]) -> None:
    """Names that hold no secrets, whatever they look like."""
    _allowed.update(filter(None, map(_words, names)))
    secret_in_name.cache_clear()


def is_allowed(name: str) -> bool:
    """Whether ``name`` is on the user's list of names that hold no secrets."""
    return bool(_allowed) and _words(name) in _allowed


@lru_cache(maxsize=4096)
def secret_in_name(name: str) -> str:
    """The kind of secret that what is called ``name`` is likely to hold, as ``api_key``; empty where none."""
    words = _words(name)
    if words in _allowed:
        return ""
    while words and words[-1].isdigit():  # password2
        words = words[:-1]
    for own, kind in _own.items():
        if words[-len(own) :] == own:
            return kind
    return _strong(words) or _weak(words)


def _strong(words: tuple[str, ...]) -> str:
    for position, word in enumerate(words):
        pair = " ".join(words[position : position + 2])
        if pair in _STRONG_PAIRS:
            found, behind = pair.replace(" ", "_"), words[position + 2 :]
        else:
            found, behind = word if word in _STRONG else _ending(word), words[position + 1 :]
        if found and not _HARMLESS_BEHIND.intersection(behind):
            return found
    return ""


def _ending(word: str) -> str:
    return next((end for end in _ENDINGS if word.endswith(end)), "")


def _weak(words: tuple[str, ...]) -> str:
    while len(words) > 1 and words[-1] in _FORMS:
        words = words[:-1]
    if not words:
        return ""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if f"{before} {last}" in _WEAK_PAIRS:
        return f"{before}_{last}"
    if last == "pass" and before in _OF_ACCOUNTS:
        return "password"
    if last == "token" and before in _HARMLESS_BEFORE:
        return ""
    return last if last in _WEAK else "token" if last.endswith("token") else ""
