# Untyped in kafka-python; see the stub of the package.
from typing import Any

def __getattr__(name: str) -> Any: ...
