"""What every provider's protocol must tell us, whatever its shape.

A dialect reads a request's body into `RequestFacts` before the call and makes an `AnswerMeter`
that reads the answer as it passes. Both are pure: bytes in, facts out. A dialect never
translates; the one change it may make to a request is to ask for the usage that the meter
needs, spliced into the bytes, and then it hides the extra chunk again.

**To add a protocol:**

1. A module with a class that is a `Dialect` (see `openai_responses`), stateless, one object of it.
   `read_request` gives a `Ceiling`: the most that the call can be billed. What has no bound is named in its
   `unbounded`; a field that is not known is one of those. Read JSON by `request_json`, which refuses what two
   readers could read differently. The model may stand in the path: `target` is the raw path and query there.
2. A `metering.Reading`: what one answer has said so far, event by event (`read_event`) or whole (`read_body`).
   `wants` runs on every piece and must be a search or two. `told` gives the normalised figures: one `Line` for
   each pass of a model, `input_tokens` with what was cached, `output_tokens` with the reasoning (`core.pricing.usage`
   has the rule; each provider's own counts are put right here), `units` for what is billed by the piece, the
   provider's own cost as information, its usage object as it came. Framing other than events or one JSON object is
   given by `Reading.stream_for`: something with the methods of `event_stream.EventStream`.
3. Its doors (`doors.Door`), in `registry`: those that are metered and those that are known and are not.
4. A `Shape`, if its errors have one of their own: its writer is in `proxy.error_bodies`.
5. Tests: exchanges in `tests/recordings`, which feed them whole, byte by byte and cut anywhere; its requests in
   `tests/unit/providers`; a place in the fuzzing of `tests/properties`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Usage


class BadRequest(ValueError):
    """The body cannot be taken: `message` for the caller, `param` the field at fault (`` if none)."""

    def __init__(self, message: str, *, param: str = "", code: str = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class RequestFacts(msgspec.Struct, frozen=True):
    """What a request's body says that matters before the call.

    `body` is what goes to the provider: the caller's bytes, or those with the usage asked for
    spliced in; `hide_usage` then tells the meter to take the extra chunk out again. `may_reason`:
    the model may bill reasoning that its stream does not show, so what is counted from a stream
    that broke off may be too little. `later` is not empty where the answer will not show the usage: it is
    the `doors.Kind` (`background`) whose choice in the configuration decides. `continues`: the id of an earlier
    answer whose whole context is billed again with this one. `own_limit`: the output limit stands in a field that
    only the protocol's own provider is known to heed.
    """

    ceiling: Ceiling
    stream: bool
    body: bytes
    hide_usage: bool = False
    may_reason: bool = False
    later: str = ""
    continues: str = ""
    own_limit: bool = False

    @property
    def model(self) -> str:
        """The model asked for, as the caller wrote it, or as the rate cards call it."""
        return self.ceiling.model

    def priced_as(self, names: Mapping[str, str]) -> RequestFacts:
        """The same request for the model's name on the rate cards, where `names` has one for the caller's."""
        name = names.get(self.ceiling.model)
        if name is None:
            return self
        return msgspec.structs.replace(self, ceiling=msgspec.structs.replace(self.ceiling, model=name))

    def without_own_limit(self) -> RequestFacts:
        """The same request where such a field may be passed over: then the answer may be as long as the model's can."""
        return msgspec.structs.replace(self, ceiling=msgspec.structs.replace(self.ceiling, output_limit=None))

    def limited_to(self, body: bytes, tokens: int) -> RequestFacts:
        """The same request with this output limit, which is written in `body`."""
        return msgspec.structs.replace(
            self, body=body, ceiling=msgspec.structs.replace(self.ceiling, output_limit=tokens)
        )


class Shape(StrEnum):
    """The protocol in which an error is written."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK = "bedrock"
    OLLAMA = "ollama"
    COHERE = "cohere"


class Ending(StrEnum):
    """How an answer ended, as the forwarder saw it."""

    COMPLETE = "complete"  # the provider ended it properly
    CUT = "cut"  # the provider's connection broke or its framing was wrong
    ABANDONED = "abandoned"  # the caller left and the rest was not read to its end
    TIMED_OUT = "timed_out"
    LIMITED = "limited"  # we ended it: nothing more could be held for it
    UNSENT = "unsent"  # the provider was never reached


class AnswerMeter(Protocol):
    """Reads one answer as it passes. Never raises, whatever the bytes: it degrades and says so."""

    def feed(self, piece: bytes) -> bytes:
        """Take the next decoded body bytes; give back what the caller gets to see now.

        That is `piece` itself, always, unless a usage chunk the caller did not ask for is to be
        hidden: then an event is passed on once it is known not to be that one.
        """
        ...

    def flush(self) -> bytes:
        """What was held back and is not to be hidden after all; called once, at the end."""
        ...

    def finished(self) -> bool:
        """Whether the protocol's own closing mark has been read: nothing that matters can follow."""
        ...

    def usage(self, ending: Ending) -> Usage:
        """The reading, for an answer that ended so. May be asked again; the answer is the same."""
        ...


class Dialect(Protocol):
    """One provider protocol."""

    name: str

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """Read a request: its body, and the raw path and query at its provider.

        Raises:
            BadRequest: not JSON, a field of the wrong type, or fields that contradict each other.
        """
        ...

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """The facts of the same request with an output limit of so many tokens (per choice), spliced into its body.

        Where the request names a limit, that is the field. `own_field`: else the one of the protocol's
        own provider; false: the one that compatible servers know. None where the request cannot have it:
        it would fall below a thinking budget.
        """
        ...

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """A meter for the answer with this head.

        Args:
            facts: of the request.
            status: the answer's.
            lines: its head's header lines as they are passed on, each with its end; some providers count there.
            content_encoding: `` for plain bytes.
        """
        ...
