"""Builds cases with two builders and compares what comes out.

    python3 tests/differential --left kiln=target/debug/kiln --right buildctl --seed 1 --count 1000
    python3 tests/differential --left kiln --right buildah --file found.jsonl

Without --file, cases are made at random. What differs is shrunk and, with --keep, written to a file,
one JSON document a line, from which --file builds it again. The exit status is 1 when something
differs that `accepted.py` doesn't know. The last line says how many cases were equal.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import accepted
import compare
import drivers
import image
from case import Case, salt
from generate import Abilities, Generator
from shrink import shrink

# What buildah 1.28 (Debian bookworm) lacks.
BUILDAH = Abilities(heredocs=False, labs=False, link=False, symbolic_modes=False, xattrs=False, odd_names=False)


class Harness:
    """Two builders and a place to work in."""

    def __init__(self, left: drivers.Driver, right: drivers.Driver, work: Path):
        self.left, self.right, self.work = left, right, work
        self.both_failed = 0

    def differences(self, case: Case) -> list[str]:
        """What differs, without what is accepted."""
        case.write(self.work / "context", salt())
        results = []
        for side, driver in (("left", self.left), ("right", self.right)):
            archive = self.work / f"{side}.tar"
            status, output = driver.build(case, self.work / "context", archive)
            results.append((status, output, archive))
        (mine, my_output, my_archive), (theirs, their_output, their_archive) = results
        if (mine == 0) != (theirs == 0):
            failed, output = ("left", my_output) if mine else ("right", their_output)
            found = [f"status: only {failed} fails: {_reason(output)}"]
        elif mine:
            self.both_failed += 1
            found = []
        else:
            found = compare.differences(image.read(my_archive), image.read(their_archive))
        return [line for line in found if not accepted.accepts(case, line, self.right.name)]

    def shrunk(self, case: Case, found: list[str]) -> tuple[Case, list[str]]:
        """The smallest case that differs in the same way, and how."""
        wanted = compare.kinds(found)

        def still_differs(smaller: Case) -> bool:
            return bool(wanted & compare.kinds(self.differences(smaller)))

        small = shrink(case, still_differs)
        return small, self.differences(small)


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if "rror" in line] or output.splitlines() or [""]
    return lines[-1].strip()


def _cases(args: argparse.Namespace):
    if args.file:
        for line in Path(args.file).read_text().splitlines():
            yield "kept", Case.from_json(json.loads(line))
        return
    abilities = BUILDAH if args.right.startswith("buildah") else Abilities()
    abilities.base = args.base
    for number in range(args.count):
        seed = args.seed + number
        yield f"seed {seed}", Generator(seed, abilities).case()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", default="kiln", help="DRIVER[=PROGRAM]: kiln, buildctl, buildx, buildah")
    parser.add_argument("--right", default="buildah", help="the same; what it does counts as right")
    parser.add_argument("--base", default=Abilities.base, help="an image with a shell, whose only user is root")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--file", help="build the cases of this file instead")
    parser.add_argument("--keep", help="write what differs to this file")
    parser.add_argument("--no-shrink", action="store_true")
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    equal = differ = 0
    with tempfile.TemporaryDirectory(prefix="differential-") as directory:
        work = Path(directory)
        pair = [drivers.named(*_split(text), work) for text in (args.left, args.right)]
        harness = Harness(*pair, work)
        for name, case in _cases(args):
            found = harness.differences(case)
            if not found:
                equal += 1
                continue
            differ += 1
            if not args.no_shrink:
                case, found = harness.shrunk(case, found)
            print(f"--- {name}", case.dockerfile, json.dumps(case.as_json()["context"]), *found, sep="\n", flush=True)
            if args.keep:
                with open(args.keep, "a") as kept:
                    kept.write(json.dumps({"title": name, "found": found} | case.as_json()) + "\n")
    print(f"both builders refused {harness.both_failed} of the builds", file=sys.stderr)
    print(f"{equal} passed, {differ} failed")
    return 1 if differ else 0


def _split(text: str) -> tuple[str, str | None]:
    name, _, program = text.partition("=")
    return name, program or None


sys.exit(main())
