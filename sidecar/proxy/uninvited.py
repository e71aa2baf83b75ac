"""Whether a caller who waits to be asked for its body needs to send it: not where the head alone says no.

Only heads with `Expect: 100-continue` come here. What is found here is found again on the corridor, which refuses it in
its own words; so an answer that differs costs a body, or an error about an empty one, and admits nothing.
"""

from __future__ import annotations

from sidecar.core.governance.decisions import Denied
from sidecar.proxy.corridor import Desk
from sidecar.proxy.local_api_problems import ROOT
from sidecar.proxy.request_head import RequestHead
from sidecar.proxy.route import Route
from sidecar.proxy.unfit import Unfit


def is_refused_by_head(head: RequestHead, desk: Desk) -> bool:
    """Whether no body could make this pass: a path that goes nowhere, nobody who spends, no key where one is needed.

    Whether a virtual key is good is not looked at: that may take the ledger.
    """
    if head.key is not None:
        return False
    if desk.requires_key:
        return True
    route = desk.routes.find(head.method, head.target, anthropic=b"anthropic-version" in head.fields)
    if not isinstance(route, Route):
        return desk.local is None or not head.target.startswith(ROOT)
    return route.dialect is not None and isinstance(desk.identifier.identify(head.fields), Unfit | Denied)
