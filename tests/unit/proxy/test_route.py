from __future__ import annotations

import pytest

from sidecar.errors import ConfigurationError
from sidecar.providers.cloud_doors import BEDROCK_CONVERSE, BEDROCK_INVOKE, GEMINI_GENERATE
from sidecar.providers.doors import Kind
from sidecar.providers.registry import OPENAI_CHAT, dialect_for
from sidecar.proxy.route import Route, Routes
from sidecar.proxy.unfit import Unfit, UnfitReason

ROUTES = Routes(further={"groq"}, pass_through=("GET /v1/models", "POST /v1/*", "GET /groq/v1/models"))


def find(method: str, target: str, *, anthropic: bool = False) -> Route | Unfit:
    return ROUTES.find(method, target, anthropic=anthropic)


def reason(method: str, target: str) -> UnfitReason | None:
    found = find(method, target)
    return found.reason if isinstance(found, Unfit) else None


@pytest.mark.parametrize(
    ("target", "upstream", "sent"),
    [
        ("/v1/chat/completions", "openai", "/v1/chat/completions"),
        ("/v1/chat/completions?a=%2F&a=b", "openai", "/v1/chat/completions?a=%2F&a=b"),
        ("/v1/messages", "anthropic", "/v1/messages"),
        ("/messages?beta=true", "anthropic", "/v1/messages?beta=true"),
        ("/groq/openai/v1/chat/completions", "groq", "/openai/v1/chat/completions"),
        ("/groq/anthropic/v1/messages", "groq", "/anthropic/v1/messages"),
    ],
)
def test_metered_paths_keep_their_raw_path_and_query(target: str, upstream: str, sent: str) -> None:
    """The fixed paths, and what follows a further upstream's name, go on byte for byte."""
    found = find("POST", target)
    assert found == Route(upstream, sent, dialect_for(sent.partition("?")[0]))
    assert isinstance(found, Route)
    assert found.dialect is not None


@pytest.mark.parametrize(
    "target",
    ["/", "/v2/chat/completions", "/chat/completions", "/openai/v1/chat/completions", "/spend/v1/check",
     "/unknown/v1/messages", "/v1/chat/completions;x", "/v1/Chat/Completions", "/v1/chat/completions/",
     "/V1/chat/completions", "/groq", "/groq/v1/rerank"],
)  # fmt: skip
def test_what_is_not_exactly_metered_is_refused(target: str) -> None:
    """No side door: not even a pattern that lets `POST /v1/*` pass opens a twin of a metered path."""
    assert reason("POST", target) is UnfitReason.ENDPOINT_NOT_METERED


def test_wrong_methods_are_refused_and_patterns_pass() -> None:
    """A GET on a metered path is not metered; what the configuration names passes, marked so."""
    assert reason("GET", "/v1/chat/completions") is UnfitReason.ENDPOINT_NOT_METERED
    assert find("GET", "/v1/models?limit=2") == Route("openai", "/v1/models?limit=2", None, Kind.FREE)
    assert find("POST", "/v1/rerank") == Route("openai", "/v1/rerank", None)
    assert find("GET", "/groq/v1/models") == Route("groq", "/v1/models", None, Kind.FREE)
    assert find("GET", "/v1/models", anthropic=True) == Route("anthropic", "/v1/models", None, Kind.FREE)
    assert reason("DELETE", "/v1/models") is UnfitReason.ENDPOINT_NOT_METERED


@pytest.mark.parametrize(
    "target",
    ["/v1/%2e%2e/v1/chat/completions", "/v1/../v1/messages", "/v1/./messages", "//v1/messages", "/v1//messages",
     "/v1%2fchat/completions", "/v1/messages%00", "/v1/messages%5c", "/v1\\messages", "\\v1/messages",
     "/v1/messages#x", "/v1/messages?a#x", "http://evil/v1/messages", "*", "", "v1/messages", "/v1/messages%zz",
     "/v1/mess ages", "/v1/messagé", "/v1/messages/.."],
)  # fmt: skip
def test_tricks_are_malformed(target: str) -> None:
    """B-P08, B-P34: whatever some server would read as another path is refused, in every form."""
    assert reason("POST", target) is UnfitReason.MALFORMED_PATH


def test_a_table_that_cannot_be_is_refused_whole() -> None:
    """Every bad name and pattern is in one report."""
    with pytest.raises(ConfigurationError) as raised:
        Routes(further={"spend", "Ups", "good"}, pass_through=("v1/models", "GET /v1/ok"))
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("method", "target", "hint"),
    [
        ("POST", "/chat/completions", "lacks /v1"),
        ("POST", "/v1/v1/chat/completions", "once too often"),
        ("POST", "/v1/v1/messages", "once too often"),
        ("GET", "/v1/chat/completions", "send POST"),
        ("POST", "/v1/messages/", "slash too many"),
        ("POST", "/v1/embeddings/x", "this path is not metered"),
    ],
)
def test_what_is_probably_wrong_is_said_first(method: str, target: str, hint: str) -> None:
    """A wrong base URL is the likeliest mistake of all."""
    found = Routes().find(method, target, anthropic=False)
    assert isinstance(found, Unfit)
    assert hint in found.message.partition(". Metered")[0]


KNOWN_DOORS = [
    ("GET", "/v1/models", Kind.FREE), ("GET", "/v1/models/gpt-4o", Kind.FREE),
    ("POST", "/v1/messages/count_tokens", Kind.FREE), ("POST", "/v1/responses/input_tokens", Kind.FREE),
    ("GET", "/v1/responses/resp_1?stream=true", Kind.STORED), ("DELETE", "/v1/responses/resp_1", Kind.STORED),
    ("POST", "/v1/responses/resp_1/cancel", Kind.STORED), ("GET", "/v1/responses/resp_1/input_items", Kind.STORED),
    ("POST", "/v1/files", Kind.FILES), ("GET", "/v1/files/f_1/content", Kind.FILES),
    ("POST", "/v1/batches", Kind.BATCH), ("POST", "/v1/messages/batches", Kind.BATCH),
    ("POST", "/v1/realtime/calls", Kind.REALTIME), ("POST", "/v1/audio/speech", Kind.AUDIO),
    ("POST", "/v1/videos", Kind.VIDEO), ("POST", "/v1/threads/t_1/runs", Kind.AGENTS),
    ("POST", "/v1/fine_tuning/jobs", Kind.TRAINING), ("POST", "/v1/nothing/known", Kind.OTHER),
    ("DELETE", "/v1/models/ft:mine", Kind.OTHER), ("GET", "/v1/responses", Kind.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "kind"), KNOWN_DOORS)
def test_a_known_door_is_refused_or_passed_as_its_kind_says(method: str, target: str, kind: Kind) -> None:
    """Free ones and what only comes back pass, counted by call; the rest is refused; the settings turn both about."""
    free = kind in {Kind.FREE, Kind.STORED}
    upstream = "anthropic" if "/messages" in target else "openai"
    turned = Routes(doors={upstream: {kind: "refuse" if free else "pass_counted"}})
    for routes, passes in ((Routes(), free), (turned, not free)):
        found = routes.find(method, target, anthropic=False)
        if passes:
            assert found == Route(upstream, target, None, kind)
        else:
            assert isinstance(found, Unfit)
            assert found.reason is UnfitReason.ENDPOINT_NOT_METERED
            assert (f"doors.{kind}" in found.message) is (kind is not Kind.OTHER)


def test_a_server_may_speak_a_protocol_at_a_path_of_its_own() -> None:
    """A path is given a dialect, or a choice, by the configuration of its upstream alone."""
    own = {"POST /api/v3/chat": "openai.chat", "POST /rank*": "pass_counted", "GET /v1/models": "refuse"}
    routes = Routes(further={"ark", "other"}, doors={"ark": own})
    assert routes.find("POST", "/ark/api/v3/chat", anthropic=False) == Route("ark", "/api/v3/chat", OPENAI_CHAT)
    assert routes.find("POST", "/ark/rank/1?x", anthropic=False) == Route("ark", "/rank/1?x", None)
    assert isinstance(routes.find("GET", "/ark/v1/models", anthropic=False), Unfit)
    assert isinstance(routes.find("POST", "/other/api/v3/chat", anthropic=False), Unfit)


@pytest.mark.parametrize("path", ["/v1/chat/completions;x", "/V1/chat/completions", "/v1/chat/completions/",
                                  "/x/v1/chat/completions"])  # fmt: skip
def test_no_choice_opens_a_twin_of_a_metered_path(path: str) -> None:
    """`other: pass_counted` and a pattern as wide as can be let no call by that a server could take for metered."""
    routes = Routes(doors={"openai": {"other": "pass_counted", "POST /*": "pass_counted"}})
    assert isinstance(routes.find("POST", path, anthropic=False), Unfit)
    assert isinstance(routes.find("POST", "/v1/rerank", anthropic=False), Route)


def test_usage_that_comes_later_is_taken_only_by_choice() -> None:
    """A background answer is of a metered path; whether it is taken is told with the route."""
    for choice, later in (("refuse", frozenset()), ("pass_counted", frozenset({"background"}))):
        found = Routes(doors={"openai": {"background": choice}}).find("POST", "/v1/chat/completions", anthropic=False)
        assert isinstance(found, Route)
        assert found.later == later


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"bach": "refuse"}, "expected one of free"),
        ({"batch": "allow"}, "expected refuse, pass_counted"),
        ({"batch": "openai.chat"}, "expected refuse, pass_counted"),
        ({"POST /v1/x": "openai.chatter"}, "openai.chat"),
        ({"v1/x": "refuse"}, "got 'v1/x'"),
    ],
)
def test_a_choice_that_cannot_be_is_told_with_its_key(said: dict[str, str], wrong: str) -> None:
    """A misspelt door is no door."""
    with pytest.raises(ConfigurationError) as raised:
        Routes(doors={"openai": said})
    assert wrong in raised.value.problems[0]
    assert raised.value.problems[0].startswith("upstreams.openai.doors")


GEMINI_PATH = "/v1beta/models/gemini-2.5-flash:generateContent"


def test_gemini_is_found_below_its_name_and_at_its_versions() -> None:
    """Its client keeps a path before `/v1beta`, and takes none as well; without such an upstream there is no way."""
    routes = Routes(further={"gemini", "vertex"})
    for target in (GEMINI_PATH, f"{GEMINI_PATH}?alt=sse", GEMINI_PATH.replace("v1beta", "v1")):
        for asked in (target, f"/gemini{target}"):
            found = routes.find("POST", asked, anthropic=False)
            assert found == Route("gemini", target, GEMINI_GENERATE)
    vertex = "/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent"
    assert routes.find("POST", f"/vertex{vertex}", anthropic=False) == Route("vertex", vertex, GEMINI_GENERATE)
    assert isinstance(Routes().find("POST", GEMINI_PATH, anthropic=False), Unfit)


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("POST", "/v1beta/models/m:countTokens", Kind.FREE), ("GET", "/v1beta/models", Kind.FREE),
        ("POST", "/v1beta/models/m:batchGenerateContent", Kind.BATCH), ("POST", "/v1beta/cachedContents", Kind.FILES),
        ("POST", "/upload/v1beta/files", Kind.FILES), ("GET", "/v1beta/batches/b", Kind.BATCH),
        ("POST", "/v1beta/models/m:predictLongRunning", Kind.VIDEO), ("POST", "/v1beta/models/m:newMethod", Kind.OTHER),
    ],
)  # fmt: skip
def test_googles_other_doors_are_known(method: str, target: str, kind: Kind) -> None:
    """What is free passes, the rest is refused; a choice turns it about."""
    found = Routes(further={"gemini"}).find(method, f"/gemini{target}", anthropic=False)
    assert isinstance(found, Route if kind is Kind.FREE else Unfit)
    turned = Routes(further={"gemini"}, doors={"gemini": {kind: "pass_counted"}})
    assert turned.find(method, f"/gemini{target}", anthropic=False) == Route("gemini", target, None, kind)


@pytest.mark.parametrize("path", ["/v1beta/models/m%3AgenerateContent", "/v1beta/models/m:GENERATECONTENT"])
def test_another_spelling_of_googles_method_is_metered_too(path: str) -> None:
    """Google decodes a path: what it may take for a metered call is one."""
    routes = Routes(further={"gemini"}, doors={"gemini": {"other": "pass_counted", "POST /*": "pass_counted"}})
    assert routes.find("POST", f"/gemini{path}", anthropic=False) == Route("gemini", path, GEMINI_GENERATE)


ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A0123%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0"


@pytest.mark.parametrize("model", ["us.amazon.nova-lite-v1%3A0", "amazon.titan-text-express-v1", ARN])
def test_bedrocks_models_stand_in_the_path(model: str) -> None:
    """An ARN's escaped slash is the only one that passes."""
    routes = Routes(further={"bedrock"})
    path = f"/model/{model}/converse-stream"
    assert routes.find("POST", f"/bedrock{path}", anthropic=False) == Route("bedrock", path, BEDROCK_CONVERSE)
    path = f"/model/{model}/invoke"
    assert routes.find("POST", f"/bedrock{path}", anthropic=False) == Route("bedrock", path, BEDROCK_INVOKE)


@pytest.mark.parametrize(
    "path",
    [
        "/model/a%2Fb/converse", f"/model/{ARN}%2F..%2Fx/converse", f"/model/{ARN}%2Fx/converse",
        f"/model/x/{ARN}/converse", "/model/arn%3Aaws%2F../converse", f"/{ARN}/converse",
    ],
)  # fmt: skip
def test_no_other_escaped_slash_passes(path: str) -> None:
    """What a provider may decode into another path is malformed."""
    found = Routes(further={"bedrock"}).find("POST", f"/bedrock{path}", anthropic=False)
    assert isinstance(found, Unfit)
    assert found.reason is UnfitReason.MALFORMED_PATH
