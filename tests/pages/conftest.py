from collections.abc import Iterator

import pytest

from tests.pages.project import Whole, make


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One project for all tests that only look."""
    with pytest.MonkeyPatch.context() as patch:
        yield make(tmp_path_factory.mktemp("whole"), patch)
