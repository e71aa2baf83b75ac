"""How much of a long list is asked for, and from where on."""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.ledger.views import GrantView


class Part(NamedTuple):
    """So many rows of a list behind the one that is named; `` for its beginning."""

    after: str = ""
    limit: int = 2**31


WHOLE: Final = Part()

PAYS: Final = "pays"
PAID_OUT: Final = "paid_out"
"""What a place in a list of grants says of the grant: that it could still pay, or could not, when it was listed."""


def grant_place(grant: GrantView) -> str:
    """A grant's place in its customer's list.

    With the grant's name goes whether it was listed among those that can still pay: spent since, it stands
    at the end of the list, and a list that went on from there would leave out all between.
    """
    pays = grant.available.atoms + grant.held.atoms + grant.leased.atoms
    return f"{PAYS if pays else PAID_OUT}:{grant.grant_id}"
