"""Builds an image with kiln and follows the events of `--progress rawjson` (docs/src/events.md).

    python3 kiln_build.py CONTEXT [FLAG...]
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field


class BuildFailed(Exception):
    """A build that failed: its message, as kiln shows it to people."""


@dataclass
class Build:
    """What is known of a build so far."""

    names: dict = field(default_factory=dict)
    outcomes: dict = field(default_factory=dict)
    warnings: list = field(default_factory=list)
    result: dict | None = None
    error: str | None = None

    def take(self, event):
        """Takes one event; kinds that it doesn't know are left alone."""
        handler = getattr(self, "on_" + event["event"], None)
        if handler:
            handler(event)

    def on_version(self, event):
        if event["version"] != 1:
            raise ValueError(f"events of version {event['version']} are not known here")

    def on_planned(self, event):
        self.names = {step["step"]: step["name"] for step in event["steps"]}

    def on_finished(self, event):
        self.outcomes[self.names[event["step"]]] = event["outcome"]

    def on_warning(self, event):
        self.warnings.append(event["message"])

    def on_result(self, event):
        self.result = event

    def on_error(self, event):
        self.error = event["message"]


def build(context, *flags, kiln="kiln"):
    """Runs a build; its outcome, or BuildFailed."""
    command = [kiln, "build", context, "--progress", "rawjson", *flags]
    state = Build()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            state.take(json.loads(line))
    if state.error is not None or process.returncode != 0:
        raise BuildFailed(state.error)
    return state


def main():
    try:
        done = build(*sys.argv[1:])
    except BuildFailed as failure:
        sys.exit(str(failure))
    for name, outcome in done.outcomes.items():
        print(f"{outcome:9} {name}")
    for warning in done.warnings:
        print("warning:", warning)
    print(json.dumps(done.result))


if __name__ == "__main__":
    main()
