"""All that is said of the engine holds with the kernels in C and without them."""

from helpers import with_and_without_kernels  # noqa: F401
