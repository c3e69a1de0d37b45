"""Recognise names that probably hold a secret: ``db.password``, ``X-Api-Key``; not ``token_count``, ``author``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache

__all__ = ["STEMS", "add_names", "allow_names", "is_allowed", "secret_in_name"]

_MAX_NAME_LENGTH = 128


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split(", " if "," in text else None))


_STRONG = _word_set(
    "password passwords passwd passphrase passcode passwort kennwort secret secrets credential credentials apikey "
    "apikeys privatekey secretkey accesskey accesstoken authtoken refreshtoken jwt htpasswd"
)
"""Words that denote a secret anywhere in a name: ``password_2``, ``secret_access_key``."""
_STRONG_PAIRS = _word_set(
    "api key, api keys, private key, secret key, access key, signing key, encryption key, master key, account key, "
    "shared key, ssh key, auth key, deploy key, license key, access token, auth token, refresh token, bearer token, "
    "session token, security token, secret id"
)
_WEAK = _word_set(
    "token pwd cookie cookies authorization sessionid sessid jsessionid phpsessid csrf xsrf otp cvv cvc sig"
)
"""Words that denote a secret only at the end of a name: ``github_token``, but not ``token_bucket``."""
_WEAK_PAIRS = _word_set("session id, connect sid, amz signature")
_ENDINGS = (
    "password", "passwd", "passphrase", "apikey", "secretkey", "privatekey", "accesskey", "secret", "credentials",
    "sessionid", "sessid", "userpwd",
)  # fmt: skip
"""Ends of compound words without a separator: ``PGPASSWORD``.

``token`` counts as well, at the end of a name: ``csrftoken``.
"""
_ACCOUNT_WORDS = _word_set("db smtp user ftp mail mysql pg redis proxy admin root login email my imap ldap")
"""Words that make a following ``pass`` a secret: ``db_pass``."""

_HARMLESS_AFTER_SECRET = _word_set(
    "age arn at attempt attempts budget change changed changes char chars check checker count counts created date days "
    "domain enabled disabled endpoint error errors exception exists expired expires expiration expiry field fields "
    "file filename form format found generator handler hint id ids in index input is len length lifetime limit limits "
    "location manager max message min minutes mismatch missing name names ns ok optional page path policy present "
    "prompt provider quality ref required reset rotated rotation rules scope scopes seconds service set size source "
    "status store strength ttl type types updated uri url usage valid validation validator version"
)
"""Words that, after the name of a secret, denote a fact about it: ``password_length``, ``secretArn``."""
_HARMLESS_BEFORE_TOKEN = _word_set(
    "next page pagination continuation cursor sync eos bos pad unk sep cls mask stop special start end per prompt "
    "completion input output total max min num avg first last idempotency unexpected invalid"
)
"""Words that, before ``token``, denote a piece of text or a position in a list."""
_VALUE_WORDS = _word_set("value header raw text str string old new current b64 base64 encoded confirm confirmation")
"""Words that, after a weak name, still denote the secret itself."""

STEMS = [
    "pass", "pwd", "secret", "token", "authoriz", "cookie", "cred", "key", "kennwort", "sess", "connect.sid", "otp",
    "cvv", "cvc", "csrf", "xsrf", "jwt", "sig",
]  # fmt: skip
"""Every secret name contains one of these in lower case. So a text can be searched for names quickly."""

_custom_names: dict[tuple[str, ...], str] = {}
_allowed_names: set[tuple[str, ...]] = set()


@cache
def _word_pattern() -> re.Pattern[str]:
    return re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(name: str) -> tuple[str, ...]:
    if len(name) > _MAX_NAME_LENGTH:  # hostile input: the end of a name says what it holds
        name = name[-_MAX_NAME_LENGTH:]
    return tuple(word.lower() for word in _word_pattern().findall(name))


def add_names(names: Iterable[str]) -> None:
    """Register names that hold secrets, in any spelling.

    ``patient_id`` also matches ``patientId``, ``Patient-ID``, and names that end in it.
    """
    for name in names:
        words = _words(name)
        if words:
            _custom_names[words] = "_".join(words)
            STEMS.append(words[0])
    secret_in_name.cache_clear()


def allow_names(names: Iterable[str]) -> None:
    """Register names that never hold secrets, although they look like it."""
    _allowed_names.update(filter(None, map(_words, names)))
    secret_in_name.cache_clear()


def is_allowed(name: str) -> bool:
    """Return whether ``name`` is on the user's list of names that hold no secrets."""
    return bool(_allowed_names) and _words(name) in _allowed_names


@lru_cache(maxsize=4096)
def secret_in_name(name: str) -> str:
    """Return the kind of secret that ``name`` probably holds, such as ``api_key``; empty if none."""
    words = _words(name)
    if words in _allowed_names:
        return ""
    while words and words[-1].isdigit():  # password2
        words = words[:-1]
    for custom_words, kind in _custom_names.items():
        if words[-len(custom_words) :] == custom_words:
            return kind
    return _strong_kind(words) or _weak_kind(words)


def _strong_kind(words: tuple[str, ...]) -> str:
    for position, word in enumerate(words):
        pair = " ".join(words[position : position + 2])
        if pair in _STRONG_PAIRS:
            kind, following = pair.replace(" ", "_"), words[position + 2 :]
        else:
            kind, following = word if word in _STRONG else _matching_ending(word), words[position + 1 :]
        if kind and not _HARMLESS_AFTER_SECRET.intersection(following):
            return kind
    return ""


def _matching_ending(word: str) -> str:
    return next((ending for ending in _ENDINGS if word.endswith(ending)), "")


def _weak_kind(words: tuple[str, ...]) -> str:
    while len(words) > 1 and words[-1] in _VALUE_WORDS:
        words = words[:-1]
    if not words:
        return ""
    last, previous = words[-1], words[-2] if len(words) > 1 else ""
    if f"{previous} {last}" in _WEAK_PAIRS:
        return f"{previous}_{last}"
    if last == "pass" and previous in _ACCOUNT_WORDS:
        return "password"
    if last == "token" and previous in _HARMLESS_BEFORE_TOKEN:
        return ""
    return last if last in _WEAK else "token" if last.endswith("token") else ""
