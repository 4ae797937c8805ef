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


def _buildah_says_it_otherwise(case: Case, line: str, other: str) -> bool:
    """buildah has its own words in histories, labels its images, makes one layer, and knows neither
    HEALTHCHECK in OCI images nor ranges of ports: only its files are compared."""
    return other == "buildah" and line.startswith(("config ", "history ", "layers "))


def _buildah_refuses_more(case: Case, line: str, other: str) -> bool:
    """buildah refuses unknown owners and sources that BuildKit takes."""
    return other == "buildah" and line.startswith("status: only right fails")


def _buildah_leaves_mount_points(case: Case, line: str, other: str) -> bool:
    """buildah's RUN leaves the files that it mounts over."""
    return other == "buildah" and bool(re.match(r"tree '(run|etc/(hosts|hostname|resolv\.conf))' is only right", line))


def _buildah_merges_modes_otherwise(case: Case, line: str, other: str) -> bool:
    """buildah leaves directories as they are which a COPY --from merges with those of a stage; BuildKit
    gives them the source's mode, and so does kiln."""
    is_mode = bool(re.match(r"tree .* mode: ", line))
    return other == "buildah" and is_mode and any("--from=" in text for text in case.instructions)


def _parents_of_the_whole_context(case: Case, line: str, other: str) -> bool:
    """`COPY --parents .` fails in BuildKit; kiln copies the context (docs/differences.md)."""
    failed = line.startswith("status: only right fails") and '"/": not found' in line
    return failed and any("--parents" in text for text in case.instructions)


def _nothing_matched_in_a_directory(case: Case, line: str, other: str) -> bool:
    """A wildcard that matches nothing in a directory of the context: BuildKit fails unless another
    instruction happens to need something of that directory (docs/differences.md)."""
    failed = re.match(r"status: only right fails: .*lstat .*: no such file or directory", line)
    return bool(failed) and any("*" in text or "[" in text or "?" in text for text in case.instructions)


def _links_to_nothing_beside_exclusions(case: Case, line: str, other: str) -> bool:
    """With --exclude BuildKit follows the links of a directory that is copied, and fails at one that leads
    nowhere; kiln copies the link, as without --exclude (docs/differences.md)."""
    failed = re.match(r'status: only right fails: .*"(/[^"]*)": not found', line)
    link = failed and case.context.get(failed[1].lstrip("/"), {}).get("symlink")
    return bool(link) and any("--exclude" in text for text in case.instructions)


def _working_directory_with_dots(case: Case, line: str, other: str) -> bool:
    """`WORKDIR /a/../b` is `/b` in both, but BuildKit's RUN makes `/a` on its way there
    (docs/differences.md)."""
    extra = re.match(r"tree '(.*)' is only right", line)
    start = extra and re.compile(rf"WORKDIR .*{re.escape(extra[1].rpartition('/')[2])}/\.\.")
    return bool(start) and any(start.match(text) for text in case.instructions)


RULES: list[Rule] = [
    _links_to_nothing_beside_exclusions,
    _working_directory_with_dots,
    _parents_of_the_whole_context,
    _nothing_matched_in_a_directory,
    _buildkit_loses_attributes,
    _buildah_says_it_otherwise,
    _buildah_refuses_more,
    _buildah_leaves_mount_points,
    _buildah_merges_modes_otherwise,
]
