"""Remove files that have not changed for a number of days: ``python clean_up.py FOLDER DAYS``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main() -> None:
    """Read the command line, remove the expired files, and print how many bytes were freed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("days", type=int, help="remove files that are older than this number of days")
    arguments = parser.parse_args()

    freed, failed = 0, 0
    for path in expired(arguments.folder, arguments.days):
        try:
            freed += remove(path)
        except OSError as error:
            failed += 1
            print(f"{path} stays: {error.strerror}", file=sys.stderr)
    print(f"{freed} bytes freed")
    if failed:
        sys.exit(1)


def expired(folder: Path, days: int) -> list[Path]:
    """Return the files below a folder that were last changed before this number of days, without links."""
    limit = time.time() - days * 24 * 60 * 60
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in files if path.stat().st_mtime < limit)


def remove(path: Path) -> int:
    """Remove a file. Returns its size in bytes."""
    size = path.stat().st_size
    path.unlink()
    return size


if __name__ == "__main__":
    main()
