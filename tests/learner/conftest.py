"""All that is said of the learner holds with the kernels in C and without them."""

from collections.abc import Iterator

import pytest
import torch

from sojourn.engine import native
from sojourn.learner import fused


@pytest.fixture(scope="module", autouse=True, params=["kernels in C", "torch alone"])
def with_and_without_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch alone":
            patch.setattr(fused, "kernels", lambda dtype: None)
        elif native.kernels(torch.float32) is None:
            pytest.skip("no C compiler here")
        yield
