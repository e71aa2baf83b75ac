"""Whatever a test of this folder has sent, the product behind it is sound afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.besieged import Besieged, besieged

Started = Callable[..., AbstractContextManager[Besieged]]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Started:
    """Starts a product with settings of the module's own; at the end it must be sound."""

    @contextmanager
    def start(data: Path | None = None, **environment: str) -> Iterator[Besieged]:
        with besieged(data or tmp_path_factory.mktemp("spend") / "data", **environment) as siege:
            yield siege
            siege.assert_sound()

    return start
