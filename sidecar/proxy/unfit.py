"""A request that cannot be taken whatever its customer may spend: a value, like a denial.

The doors refuse with `refusals.Refusal` before a request has a meaning; this is for what only its
path, its headers' contents or its body can show.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class UnfitReason(StrEnum):
    """What is wrong with it."""

    ENDPOINT_NOT_METERED = "endpoint_not_metered"
    MALFORMED_PATH = "malformed_path"
    INVALID_SUBJECT = "invalid_subject"
    INVALID_API_KEY = "invalid_api_key"  # a virtual key that is none, or none where one is needed
    PROVIDER_KEY_MISSING = "provider_key_missing"
    INVALID_REQUEST = "invalid_request"
    ANSWER_NOT_FOUND = "answer_not_found"  # a stored answer that is not this customer's, or not known


class Unfit(msgspec.Struct, frozen=True):
    """Why, in a sentence that repeats nothing of the request; `param` is the field or header at fault.

    `code` is the finer machine's word where there is one (a dialect's), else the reason itself.
    """

    reason: UnfitReason
    message: str
    param: str = ""
    code: str = ""
