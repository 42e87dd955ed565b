"""Why the service's answer cannot be used, for who knows HTTP and not Python."""

from __future__ import annotations

import re

import httpx

__all__ = ["UNUSABLE", "reason_of"]

# What asking over HTTP, and reading the answer, can raise.
UNUSABLE = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError)


def reason_of(error: Exception) -> str:
    """A line for one of `UNUSABLE`."""
    match error:
        case httpx.HTTPStatusError():
            return f"the answer is {error.response.status_code} {error.response.reason_phrase}"
        case httpx.HTTPError() | httpx.InvalidURL():
            # The number of an error is for programs: [Errno 111] says what "Connection refused" does.
            return re.sub(r"^\[Errno -?\d+\] ", "", str(error)).rstrip(".") or type(error).__name__
        case KeyError():
            return f"the answer has no {error}"
        case _:
            return "the answer is no JSON with what belongs there"
