"""How tests open the official wheel so that a bare `LOAD duckbpf` finds the extension of this checkout, whatever else is
installed on the machine. With python/engine first in PYTHONPATH, `duckdb` is a hooked engine instead."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "target" / "extension" / "duckbpf.duckdb_extension"
_INSTALLED = ROOT / "target" / "extension" / "installed"

CARRIER = "engine" if "DUCKBPF_LIBRARY" in os.environ else "graft"
"""How hooks get into the DuckDB that tests run on."""

official_client = pytest.mark.skipif(
    CARRIER == "engine",
    reason="SKIPPED: the engine's Python client here (python/engine) fetches results whole",
)
"""For tests that leave a result half read."""

CONFIG = {"allow_unsigned_extensions": "true", "extension_directory": str(_INSTALLED)}


def install() -> None:
    """Puts the extension where `CONFIG` has DuckDB look for it."""
    link = _INSTALLED / "v2.0.0" / "linux_amd64" / EXTENSION.name
    if not EXTENSION.is_file():
        raise FileNotFoundError(f"{EXTENSION} was not built: cargo xtask extension")
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(EXTENSION)
