"""Which model a request asks for, where its path may say it: Azure's deployments.

Source: learn.microsoft.com Azure OpenAI reference (`/openai/deployments/{deployment-id}/…`), checked 2026-11.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from sidecar.providers.dialect import BadRequest
from sidecar.providers.request_json import MODEL_CHARS_MAX, Members, read_model

_DEPLOYMENTS: Final = "/deployments/"


def model_asked(members: Members, target: str) -> str:
    """The deployment in the path, which decides whatever the body says; else the body's `model`.

    Azure takes the letters of its paths in either case, so they are compared in one.

    Raises:
        BadRequest: neither is there, or it is no name.
    """
    at = target.lower().find(_DEPLOYMENTS)
    if at < 0:
        return read_model(members)
    path = target.partition("?")[0]
    name = unquote(path[at + len(_DEPLOYMENTS) :].partition("/")[0], errors="replace")
    if not 0 < len(name) <= MODEL_CHARS_MAX:
        raise BadRequest("the path names no deployment.", param="model")
    return name
