"""The files that the package carries: the extension and the gallery of programs."""

import os
from pathlib import Path

from duckbpf._errors import ExtensionMissing, ProgramMissing

_DATA = Path(__file__).resolve().parent / "_data"
PLACE = Path("v2.0.0") / "linux_amd64" / "duckbpf.duckdb_extension"
"""Where DuckDB looks for the extension in a repository."""
_SUFFIX = ".bpf.o"


def extension() -> Path:
    """The loadable extension."""
    file = _DATA / "repository" / PLACE
    if not file.is_file():
        raise ExtensionMissing(
            f"{file} is missing: this package was installed without the extension. In duckbpf's sources run "
            "`cargo xtask extension && cargo xtask programs`, then `pip install ./python` again."
        )
    return file


def repository() -> Path | None:
    """The signed repository that the extension lies in; None when it was not signed."""
    folder = _DATA / "repository"
    return folder if (folder / ".well-known").is_dir() else None


def gallery() -> dict[str, Path]:
    """The programs that come with the package: their names and files."""
    files = sorted((_DATA / "gallery").glob(f"*{_SUFFIX}"))
    return {file.name.removesuffix(_SUFFIX): file for file in files}


def program(name: str | os.PathLike[str]) -> Path:
    """The file of a program.

    A string without a folder and without ``.bpf.o`` is a name of the gallery; everything else is a path.
    """
    if not isinstance(name, str) or os.sep in name or name.endswith(_SUFFIX):
        return Path(name).absolute()
    programs = gallery()
    if name not in programs:
        raise ProgramMissing(
            f"the gallery has no program {name!r}; it has {', '.join(programs) or 'none'}. "
            f"A file is named with its folder or its ending: './{name}{_SUFFIX}'"
        )
    return programs[name]
