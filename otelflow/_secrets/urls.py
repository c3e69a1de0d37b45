"""Recognise the secrets in a URL: user and password, and the values of its query."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit, urlunsplit

from otelflow._secrets.detect import REDACTED, looks_secret

__all__ = ["redacted_url", "url_secrets", "url_without_credentials"]


def url_secrets(url: str) -> Iterator[str]:
    """Yield what must not be shown of ``url``: user and password, the password alone, each value of the query.

    An error of a connection names the whole URL, so these values are looked for in log lines.
    """
    for match in re.finditer(r"//([^/?#@]*)@", url if "//" in url else f"//{url}"):
        yield match[1]
        yield from match[1].split(":")[1:]
    yield from re.findall(r"[?&][^=&#]*=([^&#]+)", url)


def url_without_credentials(url: str, *, keep_query: bool = False) -> str:
    """Return ``url`` without user, password, query and fragment. It needs no scheme.

    Args:
        keep_query: Leave query and fragment: in the URL of a file system they belong to the path.
    """
    scheme, slashes, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    bare = f"{authority.rpartition('@')[2]}{slash}{path}"
    return f"{scheme}{slashes}{bare if keep_query else re.split('[?#]', bare, maxsplit=1)[0]}"


def redacted_url(url: str) -> str:
    """Return ``url`` with a mark in the place of credentials and of each value of the query. It needs no scheme."""
    bare = "//" not in url
    try:
        parts = urlsplit(f"//{url}" if bare else url)
    except ValueError:
        return REDACTED
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{REDACTED}@{host}" if "@" in parts.netloc else host
    query = "&".join(f"{pair.partition('=')[0]}={REDACTED}" for pair in parts.query.split("&") if pair)
    shown = urlunsplit(SplitResult(parts.scheme, netloc, parts.path, query, ""))
    if looks_secret("", shown.replace(REDACTED, "")):
        return REDACTED
    return shown.removeprefix("//") if bare else shown
