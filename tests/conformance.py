"""Where data that others published lie: beside the repository, never in it."""

from __future__ import annotations

from pathlib import Path

PUBLISHED = Path(__file__).parents[2] / "shared" / "conformance"
