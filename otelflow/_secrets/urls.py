"""Recognise the secrets in a URL: user and password, and the values of its query."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit, urlunsplit

from otelflow._secrets.detect import REDACTED, looks_secret

__all__ = ["redacted_url", "url_secrets", "url_without_credentials"]


def url_secrets(url: str) -> Iterator[str]:
    """Yield the secrets of ``url``: user and password, the password alone, each value of the query.

    A connection error names the whole URL, so log lines are searched for these values.
    """
    for match in re.finditer(r"//([^/?#@]*)@", url if "//" in url else f"//{url}"):
        yield match[1]
        yield from match[1].split(":")[1:]
    yield from re.findall(r"[?&][^=&#]*=([^&#]+)", url)


def url_without_credentials(url: str, *, keep_query: bool = False) -> str:
    """Return ``url`` without user, password, query and fragment. The scheme is optional.

    Args:
        keep_query: Keep query and fragment: in the URL of a file system they belong to the path.
    """
    scheme, slashes, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    address = f"{authority.rpartition('@')[2]}{slash}{path}"
    return f"{scheme}{slashes}{address if keep_query else re.split('[?#]', address, maxsplit=1)[0]}"


def redacted_url(url: str) -> str:
    """Return ``url`` with a placeholder for credentials and for each value of the query. The scheme is optional."""
    lacks_scheme = "//" not in url
    try:
        parts = urlsplit(f"//{url}" if lacks_scheme else url)
    except ValueError:
        return REDACTED
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{REDACTED}@{host}" if "@" in parts.netloc else host
    query = "&".join(f"{pair.partition('=')[0]}={REDACTED}" for pair in parts.query.split("&") if pair)
    clean_url = urlunsplit(SplitResult(parts.scheme, netloc, parts.path, query, ""))
    if looks_secret("", clean_url.replace(REDACTED, "")):
        return REDACTED
    return clean_url.removeprefix("//") if lacks_scheme else clean_url
