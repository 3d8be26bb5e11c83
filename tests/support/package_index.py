"""A package index of a few tiny wheels, in a folder (PEP 503)."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

BUILD = """
import os, zipfile
INFO = "NAME-RELEASE.dist-info"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{directory}/NAME-RELEASE-py3-none-any.whl", "w") as archive:
        archive.write("NAME.py")
        if os.path.exists("tell.py"):
            archive.write("tell.py")
        archive.write("PKG-INFO", f"{INFO}/METADATA")
        wheel = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        archive.writestr(f"{INFO}/WHEEL", wheel)
        archive.writestr(f"{INFO}/RECORD", f"NAME.py,,\\n{INFO}/METADATA,,\\n{INFO}/WHEEL,,\\n{INFO}/RECORD,,\\n")
    return "NAME-RELEASE-py3-none-any.whl"
"""
"""A build backend that needs nothing but Python."""


def add_package(index: Path, name: str, version: str, source: str, *, requires: str = "") -> None:
    """Put a package of one module with this source into ``index``."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    _list(folder)


def add_source(index: Path, name: str, version: str, source: str, *, build: str = "") -> None:
    """Put a package into ``index`` that has no wheel; it builds itself without fetching anything.

    ``build``: code that runs when it is built; a ``tell.py`` that it leaves becomes part of the package.
    """
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n',
        f"{name}.py": source,
        "build.py": build + BUILD.replace("NAME", name).replace("RELEASE", version),
    }
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    _list(folder)


def _list(folder: Path) -> None:
    packages = [*sorted(folder.glob("*.whl")), *sorted(folder.glob("*.tar.gz"))]
    (folder / "index.html").write_text("".join(f'<a href="{path.name}">{path.name}</a>\n' for path in packages))


def index_settings(index: Path, cache: Path) -> dict[str, str]:
    """Settings that make ``index`` uv's only index, and ``cache`` its cache."""
    return {"UV_DEFAULT_INDEX": index.as_uri(), "UV_CACHE_DIR": str(cache)}
