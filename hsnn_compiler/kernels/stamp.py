"""A name for the present state of these sources.

Numba keeps compiled functions on disk and compiles them again when *their* file changes, but not when a file
with functions that they call does. An entry function that closes over this stamp has a cache key of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
STAMP = hashlib.sha256(SOURCES).hexdigest()
