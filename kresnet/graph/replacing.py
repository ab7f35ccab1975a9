"""Operations that work otherwise for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(operation: Any, name: str, value: Any) -> Iterator[None]:
    """Gives an attribute of a layer, or of another operation, such as its `call`, another value within the context."""
    own, before = name in vars(operation), getattr(operation, name)
    setattr(operation, name, value)
    try:
        yield
    finally:
        if own:
            setattr(operation, name, before)
        else:
            delattr(operation, name)  # the class's own method shows again
