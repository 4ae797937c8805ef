"""Makes a case smaller as long as the builders still disagree about it."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy

from case import Case

FLAG = re.compile(r" --[a-z]+=\S+| --(link|parents)\b")


def shrink(case: Case, still_differs: Callable[[Case], bool], budget: int = 120) -> Case:
    """The smallest case found with at most `budget` builds."""
    tried = 0
    while True:
        for smaller in _smaller(case):
            if tried == budget:
                return case
            tried += 1
            if still_differs(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one thing less, those with much less first."""
    for at in reversed(range(len(case.instructions))):
        yield _with(case, instructions=case.instructions[:at] + case.instructions[at + 1 :])
    for name in ("ignore", "build_args", "target"):
        if getattr(case, name):
            yield _with(case, **{name: None if name == "target" else type(getattr(case, name))()})
    for path in sorted(case.context, key=lambda path: path.count("/")):
        below = {other: spec for other, spec in case.context.items() if not (other + "/").startswith(path + "/")}
        used = {spec.get("hardlink") for spec in below.values()}
        if used.isdisjoint(case.context.keys() - below.keys()):
            yield _with(case, context=below)
    for at in range(len(case.ignore)):
        yield _with(case, ignore=case.ignore[:at] + case.ignore[at + 1 :])
    for at, instruction in enumerate(case.instructions):
        for simpler in _simpler(instruction):
            yield _with(case, instructions=case.instructions[:at] + [simpler] + case.instructions[at + 1 :])
    for path, spec in case.context.items():
        for key in ("mode", "uid", "gid", "mtime", "xattrs"):
            if key in spec:
                plain = {name: value for name, value in spec.items() if name != key}
                yield _with(case, context=case.context | {path: plain})


def _simpler(instruction: str) -> Iterator[str]:
    first, _, rest = instruction.partition("\n")
    for flag in FLAG.finditer(first):
        yield first[: flag.start()] + first[flag.end() :] + (f"\n{rest}" if rest else "")
    words = instruction.split(" ")
    if "\n" not in instruction and len(words) > 3:
        for at in range(1, len(words) - 1):
            yield " ".join(words[:at] + words[at + 1 :])


def _with(case: Case, **changes) -> Case:
    smaller = deepcopy(case)
    for name, value in changes.items():
        setattr(smaller, name, value)
    return smaller
