"""Puts what cargo built into the wheel: the extension with its graft, and the gallery of programs."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


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
        included[str(extension)] = "duckbpf/_data/duckbpf.duckdb_extension"
        for program in programs:
            included[str(program)] = f"duckbpf/_data/gallery/{program.name}"
        # No code of ours is compiled against Python, but the extension runs on one platform only.
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
