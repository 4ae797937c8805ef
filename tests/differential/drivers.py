"""Builders: each turns a context into an OCI archive."""

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from case import Case

# How long one build may take, in seconds.
TIMEOUT = 300


@dataclass
class Driver:
    """A builder's command line. `{context}`, `{args}`, `{target}` and `{oci}` stand for what a build
    needs; the archive is to be at `{oci}` afterwards."""

    name: str
    template: str
    arg: str = "--build-arg {name}={value}"
    target: str = "--target {name}"
    environment: dict[str, str] = field(default_factory=dict)

    def build(self, case: Case, context: Path, oci: Path) -> tuple[int, str]:
        """The exit status, and all that the builder wrote."""
        oci.unlink(missing_ok=True)
        args = [
            self.arg.format(name=shlex.quote(name), value=shlex.quote(value))
            for name, value in sorted(case.build_args.items())
        ]
        target = self.target.format(name=shlex.quote(case.target)) if case.target else ""
        command = self.template.format(
            context=shlex.quote(str(context)), args=" ".join(args), target=target, oci=shlex.quote(str(oci))
        )
        try:
            done = subprocess.run(
                ["bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                env=os.environ | self.environment,
            )
        except subprocess.TimeoutExpired as late:
            return 124, (late.stdout or b"").decode("utf-8", "replace")
        return done.returncode, done.stdout.decode("utf-8", "replace")


def kiln(program: str, store: str) -> Driver:
    template = "{program} build {{context}} --progress plain {{args}} {{target}} -o type=oci,dest={{oci}}"
    return Driver("kiln", template.format(program=shlex.quote(program)), environment={"KILN_ROOT": store})


def buildctl(program: str) -> Driver:
    """BuildKit by itself; `program` may have flags, such as `--addr`."""
    template = (
        "{program} build --progress plain --frontend dockerfile.v0 --local context={{context}}"
        " --local dockerfile={{context}} {{args}} {{target}} --output type=oci,dest={{oci}}"
    )
    return Driver(
        "buildctl",
        template.format(program=program),
        arg="--opt build-arg:{name}={value}",
        target="--opt target={name}",
    )


def buildx(program: str) -> Driver:
    """BuildKit in Docker; `program` may be `docker` with flags or variables."""
    template = (
        "{program} buildx build {{context}} --network host --provenance=false --progress plain"
        " {{args}} {{target}} -o type=oci,dest={{oci}}"
    )
    return Driver("buildx", template.format(program=program))


def buildah(program: str, store: str) -> Driver:
    """buildah, without a container for each RUN; the image is kept only until it is copied."""
    root = f"--root {shlex.quote(store + '/root')} --runroot {shlex.quote(store + '/run')}"
    template = (
        "set -e; {program} {root} bud --isolation chroot --format oci --layers=false --tls-verify=false"
        " {{args}} {{target}} -t differential {{context}}; rm -f {{oci}};"
        " {program} {root} push -q differential oci-archive:{{oci}}; {program} {root} rmi -f differential"
    )
    return Driver("buildah", template.format(program=program, root=root), environment={"BUILDAH_FORMAT": "oci"})


def named(name: str, program: str | None, work: Path) -> Driver:
    """A driver by its name, with the program's usual name unless another is given."""
    if name == "kiln":
        return kiln(program or "kiln", str(work / "store"))
    if name == "buildctl":
        return buildctl(program or "buildctl")
    if name == "buildx":
        return buildx(program or "docker")
    if name == "buildah":
        return buildah(program or "buildah", str(work / "buildah"))
    raise SystemExit(f"unknown driver {name}: use kiln, buildctl, buildx or buildah")
