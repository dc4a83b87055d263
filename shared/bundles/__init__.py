"""Bundles that come with the package, so that nothing needs a download."""

from __future__ import annotations

from pathlib import Path

from shared.errors import BundleError

_FOLDER = Path(__file__).parent


def bundle_path(name_or_path: str) -> Path:
    """The folder of a packaged bundle, by its name, or of any other, by its path.

    Raises:
        BundleError: neither.
    """
    packaged = _FOLDER / name_or_path
    if "/" not in name_or_path and (packaged / "manifest.json").is_file():
        return packaged
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        names = sorted(path.parent.name for path in _FOLDER.glob("*/manifest.json"))
        msg = (
            f"no bundle {name_or_path!r}: name one that is packaged ({', '.join(names) or 'none'}) or the "
            "folder of one made by `antiphon model prepare`"
        )
        raise BundleError(msg)
    return folder
