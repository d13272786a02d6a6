"""Arrow's compute functions are created when the module is imported, so no type checker can see them."""

from typing import Any

def __getattr__(name: str) -> Any: ...
