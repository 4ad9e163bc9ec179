"""Fails unless a wheel holds the package, whole, and nothing else: python scripts/check_wheel.py FOLDER_OR_WHEEL"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "unitgain"
IGNORED = {"__pycache__"}


def problems(wheel: Path) -> list[str]:
    """What is missing in the wheel, and what does not belong there."""
    wanted = {
        f"unitgain/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and not IGNORED & set(path.parts)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    inside = {name for name in names if ".dist-info/" not in name}
    found = [f"missing: {name}" for name in sorted(wanted - inside)]
    found += [f"does not belong there: {name}" for name in sorted(inside - wanted)]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        found.append("missing: the licence")
    return found


def main() -> int:
    place = Path(sys.argv[1])
    wheels = [place] if place.is_file() else sorted(place.glob("unitgain-*.whl"))
    lines = [f"{wheel.name}: {line}" for wheel in wheels for line in problems(wheel)]
    for line in lines or ([] if wheels else [f"{place}: no wheel"]):
        print(line)
    return bool(lines) or not wheels


if __name__ == "__main__":
    sys.exit(main())
