"""For all tests: a tiny model in a directory; `tests/*.py` can be imported; hypothesis tries the same examples each time."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a local directory."""
    from helpers import saved, small

    return saved(small(), tmp_path_factory.mktemp("model"))
