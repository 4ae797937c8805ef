"""A case: a Dockerfile and its context, as JSON, in the form of the conformance corpus."""

import base64
import os
import random
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

# Every file of a context has this time unless it says another one, in seconds since 1970.
MTIME = 1_600_000_000


@dataclass
class Case:
    """What is built."""

    instructions: list[str]
    # By path: {"content": TEXT} or {"symlink": TARGET}, {"hardlink": PATH}, {"type": "dir"|"fifo"|"socket"};
    # with "mode" (octal text), "uid", "gid", "mtime", "xattrs" (values in base64).
    context: dict[str, dict] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
    build_args: dict[str, str] = field(default_factory=dict)
    target: str | None = None

    @property
    def dockerfile(self) -> str:
        return "\n".join(self.instructions) + "\n"

    def write(self, directory: Path, salt: int) -> None:
        """Makes the context. `salt` moves all times by nanoseconds: builders that compare size and time
        must not take one case's files for another's."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o755, parents=True)
        directory.chmod(0o755)
        (directory / "Dockerfile").write_text(self.dockerfile)
        if self.ignore:
            (directory / ".dockerignore").write_text("\n".join(self.ignore) + "\n")
        links_last = sorted(self.context.items(), key=lambda item: ("hardlink" in item[1], item[0]))
        for path, spec in links_last:
            _make(directory, path, spec)
        _date(directory, self.context, salt)

    def as_json(self) -> dict:
        context = dict(self.context)
        if self.ignore:
            context[".dockerignore"] = {"content": "\n".join(self.ignore) + "\n"}
        args: dict = {}
        if self.build_args:
            args["build_args"] = self.build_args
        if self.target:
            args["target"] = self.target
        return {"dockerfile": self.dockerfile, "context": context, "args": args}

    @classmethod
    def from_json(cls, document: dict) -> "Case":
        context = {
            path: {"content": spec} if isinstance(spec, str) else spec
            for path, spec in document.get("context", {}).items()
        }
        ignore = context.pop(".dockerignore", {"content": ""})["content"].splitlines()
        args = document.get("args", {})
        return cls(
            split_instructions(document["dockerfile"]),
            context,
            ignore,
            args.get("build_args", {}),
            args.get("target"),
        )


def split_instructions(text: str) -> list[str]:
    """A Dockerfile's instructions, each with the lines that belong to it."""
    instructions: list[str] = []
    open_until: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        continued = instructions and instructions[-1].split("\n")[-1].endswith("\\")
        if open_until or continued:
            instructions[-1] += "\n" + line
            if open_until and line.lstrip("\t") == open_until[0]:
                open_until.pop(0)
        else:
            instructions.append(line)
            open_until = heredoc_names(line)
    return instructions


def heredoc_names(line: str) -> list[str]:
    """The words that end the here-documents begun in a line."""
    words = [word.lstrip("<-") for word in line.split() if word.startswith("<<")]
    return [word.strip("\"'") for word in words]


def _make(directory: Path, path: str, spec: dict) -> None:
    at = directory / path
    at.parent.mkdir(parents=True, exist_ok=True)
    kind = spec.get("type")
    if "symlink" in spec:
        at.symlink_to(spec["symlink"])
    elif "hardlink" in spec:
        os.link(directory / spec["hardlink"], at, follow_symlinks=False)
    elif kind == "dir":
        at.mkdir(exist_ok=True)
    elif kind == "fifo":
        os.mkfifo(at)
    elif kind == "socket":
        _socket(at)
    elif "base64" in spec:
        at.write_bytes(base64.b64decode(spec["base64"]))
    else:
        at.write_text(spec.get("content", ""))
    if "uid" in spec or "gid" in spec:
        os.lchown(at, spec.get("uid", -1), spec.get("gid", -1))
    if "symlink" not in spec and "hardlink" not in spec:
        default = "0755" if kind == "dir" else "0644"
        at.chmod(int(spec.get("mode", default), 8))
        for name, value in spec.get("xattrs", {}).items():
            os.setxattr(at, name, base64.b64decode(value))


def _socket(at: Path) -> None:
    here = os.getcwd()
    os.chdir(at.parent)  # A socket's address is short.
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(at.name)
    finally:
        os.chdir(here)


def _date(directory: Path, context: dict[str, dict], salt: int) -> None:
    """Times are set last, and those of directories after those of what is in them."""
    for top, directories, files in os.walk(directory, topdown=False):
        for name in files + directories:
            at = Path(top) / name
            path = at.relative_to(directory).as_posix()
            if path not in context and at.is_dir() and not at.is_symlink():
                at.chmod(0o755)
            seconds = context.get(path, {}).get("mtime", MTIME)
            nanoseconds = seconds * 10**9 + salt
            os.utime(at, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    os.utime(directory, (MTIME, MTIME))


def salt() -> int:
    """Below half a second, so that nobody rounds it up."""
    return random.SystemRandom().randrange(1, 4 * 10**8)
