"""Puts what cargo built into the wheel: the extension with its graft, signed where it was, the gallery of programs, and the command."""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "v2.0.0/linux_amd64/duckbpf.duckdb_extension"
KEYS = ".well-known/duckdb-extension-repo.json"
SIGNATURE = 256


class BuiltByCargo(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        target = Path(self.root).parent / "target"
        extension = target / "extension" / "duckbpf.duckdb_extension"
        programs = sorted((target / "bpf").glob("*.bpf.o"))
        if not extension.is_file() or not programs:
            missing = "the gallery of programs" if extension.is_file() else "the extension"
            raise RuntimeError(
                f"{missing} was not built yet. In {Path(self.root).parent} run\n"
                "    cargo xtask extension && cargo xtask programs\n"
                "and install again."
            )
        included = build_data["force_include"]
        repository = target / "repository"
        if _is_signed(repository / PLACE, extension):
            included[str(repository / KEYS)] = f"duckbpf/_data/repository/{KEYS}"
            extension = repository / PLACE
        included[str(extension)] = f"duckbpf/_data/repository/{PLACE}"
        for program in programs:
            included[str(program)] = f"duckbpf/_data/gallery/{program.name}"
        if command := os.environ.get("DUCKBPF_COMMAND"):
            build_data["shared_scripts"][command] = "duckbpf"
        # No code of ours is compiled against Python, but the extension runs on one platform only.
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"


def _is_signed(signed: Path, extension: Path) -> bool:
    """Whether a signed file is this extension; the signature is its last bytes."""
    return signed.is_file() and signed.read_bytes()[:-SIGNATURE] == extension.read_bytes()[:-SIGNATURE]
