"""pyarrow ships no types and creates much of its interface when it is imported."""

from typing import Any

def __getattr__(name: str) -> Any: ...
