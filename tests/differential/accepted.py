"""Differences that are meant, each with its reason. Nothing else is passed over."""

import re
from collections.abc import Callable

from case import Case

# What decides: the case, the difference, and the name of the other builder.
Rule = Callable[[Case, str, str], bool]


def accepts(case: Case, line: str, other: str) -> bool:
    return any(rule(case, line, other) for rule in RULES)


def _buildkit_loses_attributes(case: Case, line: str, other: str) -> bool:
    """BuildKit keeps `user.*` attributes of context files, but takes a file whose attributes alone are
    other ones for the same as one that it has: which it gives depends on what was built before."""
    return bool(re.match(r"tree .* xattrs: \{'user\.", line)) and line.endswith("and {}")


RULES: list[Rule] = [_buildkit_loses_attributes]
