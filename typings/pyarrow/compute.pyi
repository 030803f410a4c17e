# Untyped in pyarrow.
from typing import Any

def __getattr__(name: str) -> Any: ...
