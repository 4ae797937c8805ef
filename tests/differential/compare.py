"""What differs between two images."""

from image import Image

# Times before this one were set on purpose; later ones are when a step ran. In seconds since 1970.
NOW = 1_700_000_000


def differences(left: Image, right: Image) -> list[str]:
    """One line for each difference, beginning with its kind: tree, config, history or layers."""
    found = _trees(left.tree, right.tree)
    found += _maps("config", _flat(left.config), _flat(right.config))
    found += _lists("history", left.history, right.history)
    if not found:
        found += _lists("layers", left.layers, right.layers)
    return found


def kinds(found: list[str]) -> set[str]:
    return {line.split(" ", 1)[0] for line in found}


def _trees(left: dict[str, dict], right: dict[str, dict]) -> list[str]:
    found = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right:
            found.append(f"tree {path!r} is only {'left' if path in left else 'right'}")
            continue
        mine, theirs = left[path], right[path]
        for key in sorted(mine.keys() | theirs.keys()):
            pair = (mine.get(key), theirs.get(key))
            if pair[0] != pair[1] and not (key == "mtime" and _is_now(mine, theirs)):
                found.append(f"tree {path!r} {key}: {pair[0]!r} and {pair[1]!r}")
    return found


def _is_now(mine: dict, theirs: dict) -> bool:
    """Whether times mean nothing: those of what a step made, and of directories that it changed."""
    times = (mine["mtime"], theirs["mtime"])
    return min(times) > NOW or (mine["type"] == theirs["type"] == "dir" and max(times) > NOW)


def _flat(config: dict) -> dict:
    """The configuration with what is empty left out: absent and empty mean the same."""
    flat = {key: value for key, value in config.items() if key != "config"}
    flat |= {f"config.{key}": value for key, value in (config.get("config") or {}).items()}
    return {key: value for key, value in flat.items() if value not in (None, "", [], {}, False)}


def _maps(kind: str, left: dict, right: dict) -> list[str]:
    return [
        f"{kind} {key}: {left.get(key)!r} and {right.get(key)!r}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def _lists(kind: str, left: list, right: list) -> list[str]:
    found = [f"{kind} {at}: {one!r} and {other!r}" for at, (one, other) in enumerate(zip(left, right)) if one != other]
    if len(left) != len(right):
        found.append(f"{kind} has {len(left)} and {len(right)}")
    return found
