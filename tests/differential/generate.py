"""Small Dockerfiles and contexts, made at random from the parts that builders disagree about."""

import base64
import random
from dataclasses import dataclass

from case import Case

# One set of names everywhere, so that sources, patterns and destinations meet.
NAMES = ["a", "b", "f.txt", "g.md", "x y", "ü", "[z]", ".h", "d", "e", "sub", "lib"]
DIRECTORIES = ["d", "e", "d/sub", "d/e", "lib", "e/.h"]
PATTERNS = [
    "*", "*.txt", "*.md", "d/*", "?", "[a-e]", "[^a]*", "d*", "*/sub", "d/*/*", "f?txt", "*b", "[[]z]",
    r"\[z]", r"g\.md", "*/*.txt", "d/[es]*", ".*",
]
IGNORE = [
    "*", "*.md", "**/*.md", "d", "d/", "/d/sub", "**/sub", "!d/sub", "!*.txt", "!**/f.txt", "**.txt", "d/**",
    "d**", "**e", "s*/**", "# a comment", "", " a ", "./b", "d/../e", "*/*", "!d", "!d/sub/b", "?", "[ab]",
    "Dockerfile", ".dockerignore", "**/a/**", "lib/*", "!lib/a", "e/*/b", "**", "!**/b",
]
MODES = ["0644", "0600", "0755", "0777", "4755", "2711", "0000", "1777", "0444"]
OWNERS = [
    "1000", "1000:2000", "root", "root:root", "0:5", "5:root", "nobody", "app", "app:staff", "1:staff", ":7",
    "7:", "root:nobody", "nobody:staff", "0", "0:0",
]
CHMODS = ["755", "0600", "4755", "1777", "2750", "u+x", "a=rX", "go-rwx", "u=rwx,g=rx,o=", "+x", "g+s", "o+t"]
DESTINATIONS = [
    "/", "/o", "/o/", "/o/p", "/o/p/", ".", "./", "q", "q/", "q/r", "/l", "/l/", "/l/x", "/o/.", "/o/../p", "/f",
    "/dangling", "/dangling/", "$V/", "${V:-z}/", '"/s p/"', "/o//p/",
]
WORDS = ["x", "a b", "$V", "${V}", "${V:-d}", "${V:+p}", "${U:-d}", "$U", r"\$V", "'$V'", '"$V"', '"a  b"', "a\\ b",
         "$W$V", "${V}x", "${V#l}", "${V%1}", "${V/1/2}", "'a\"b'", '"a\'b"', "é", "$", "${W:-${V}}", "-", "=", "a=b"]


@dataclass
class Abilities:
    """What both builders can do."""

    base: str = "127.0.0.1:5000/busybox:latest"
    heredocs: bool = True
    # COPY --exclude and --parents
    labs: bool = True
    link: bool = True
    symbolic_modes: bool = True
    xattrs: bool = True
    odd_names: bool = True


class Generator:
    """Cases of one seed."""

    def __init__(self, seed: int, abilities: Abilities):
        self.random = random.Random(seed)
        self.can = abilities

    def case(self) -> Case:
        self.case_ = Case([])
        self._context()
        if self.random.random() < 0.35:
            self.case_.ignore = [self._pick(IGNORE) for _ in range(self.random.randint(1, 5))]
        self._dockerfile()
        return self.case_

    def _pick(self, things):
        return self.random.choice(things)

    def _maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    # The context

    def _context(self) -> None:
        context = self.case_.context
        for directory in self.random.sample(DIRECTORIES, self.random.randint(1, 4)):
            if self._maybe(0.4):
                context[directory] = {"type": "dir", "mode": self._pick(["0755", "0700", "1777", "2755", "0711"])}
            for name in self._names(self.random.randint(0, 3)):
                self._put(f"{directory}/{name}")
        for name in self._names(self.random.randint(1, 4)):
            self._put(name)

    def _names(self, count: int) -> list[str]:
        names = NAMES if self.can.odd_names else [name for name in NAMES if name.isascii() and " " not in name]
        return self.random.sample(names, count)

    def _put(self, path: str) -> None:
        context = self.case_.context
        above = [path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)]
        below = any(other.startswith(path + "/") for other in context)
        if path in context or below or any(context.get(it, {"type": "dir"}).get("type") != "dir" for it in above):
            return
        context[path] = self._entry(path)

    def _entry(self, path: str) -> dict:
        kind = self.random.random()
        files = [name for name, spec in self.case_.context.items() if "content" in spec]
        if kind < 0.12:
            return {"symlink": self._pick(["a", "d", "../a", "/d", "nothing", "sub", "..", ".", "e/b", "/etc/passwd"])}
        if kind < 0.2 and files:
            return {"hardlink": self._pick(files)}
        if kind < 0.23:
            return {"type": "fifo", "mode": self._pick(MODES)}
        if kind < 0.25:
            return {"type": "socket", "mode": "0755"}
        if kind < 0.3:
            return {"type": "dir", "mode": self._pick(["0755", "0700"])}
        spec: dict = {"content": self._pick(["", "1\n", path + "\n", "a\nb\n"])}
        if self._maybe(0.3):
            spec["mode"] = self._pick(MODES)
        if self._maybe(0.15):
            spec |= {"uid": 1000, "gid": 2000}
        if self._maybe(0.2):
            spec["mtime"] = self._pick([0, 1, 1234567890, 1_650_000_000])
        if self.can.xattrs and self._maybe(0.05):
            spec["xattrs"] = {"user.note": base64.b64encode(self._pick([b"v", b"a\nb"])).decode()}
        return spec

    # The Dockerfile

    def _dockerfile(self) -> None:
        out = self.case_.instructions
        if self._maybe(0.5):
            out.append(f"ARG V{self._pick(['', '=l1', '=$W', '=a b', '='])}".replace("=a b", '="a b"'))
        if self._maybe(0.2):
            out.append("ARG W=w")
        stages = []
        for number in range(self._pick([1, 1, 2, 3])):
            stages.append(f"s{number}")
            self._stage(stages)
        if self._maybe(0.3):
            self.case_.build_args["V"] = self._pick(["given", "", "a b", "$W"])
        if len(stages) > 1 and self._maybe(0.15):
            self.case_.target = self._pick(stages)

    def _stage(self, stages: list[str]) -> None:
        bases = ["scratch", self.can.base, *stages[:-1]]
        base = self._pick(bases)
        out = self.case_.instructions
        out.append(f"FROM {base} AS {stages[-1]}")
        self.has_shell = base != "scratch"
        if base == self.can.base and self._maybe(0.3):
            out.append(
                "RUN echo app:x:1000:1001::/:/bin/sh >> /etc/passwd && echo staff:x:50: >> /etc/group"
                " && mkdir -m 0750 -p /o/p && ln -s o /l && ln -s /nowhere/x /dangling && echo 1 > /f"
            )
        for _ in range(self.random.randint(1, 5)):
            out.append(self._instruction(stages))

    def _instruction(self, stages: list[str]) -> str:
        kinds = [self._copy] * 8 + [self._env] * 2 + [self._arg] * 2 + [self._config] * 4 + [self._workdir]
        kinds += [self._heredoc] if self.can.heredocs else []
        made = self._pick(kinds)
        return made(stages) if made == self._copy else made()

    def _copy(self, stages: list[str]) -> str:
        verb = "ADD" if self._maybe(0.15) else "COPY"
        flags = []
        origin = None
        if verb == "COPY" and len(stages) > 1 and self._maybe(0.35):
            origin = self._pick(stages[:-1])
            flags.append(f"--from={origin}")
        if self._maybe(0.25):
            flags.append(f"--chown={self._pick(OWNERS)}")
        if self._maybe(0.25):
            modes = CHMODS if self.can.symbolic_modes else [mode for mode in CHMODS if mode.isdigit()]
            flags.append(f"--chmod={self._pick(modes)}")
        if self.can.link and self._maybe(0.1):
            flags.append("--link")
        if self.can.labs and self._maybe(0.12):
            flags.append(f"--exclude={self._pick(['*.md', '**/b', 'sub', 'd/*', '!a', '**.txt', '*'])}")
        if self.can.labs and verb == "COPY" and self._maybe(0.08):
            flags.append("--parents")
        sources = [self._source(origin) for _ in range(self._pick([1, 1, 1, 2, 3]))]
        destination = self._pick(DESTINATIONS)
        if len(sources) > 1 and not destination.endswith("/") and self._maybe(0.8):
            destination = self._pick(["/o/", "q/", "./", "/l/"])
        if any(" " in source for source in sources) or self._maybe(0.1):
            words = ", ".join(_json(word.strip('"')) for word in [*sources, destination])
            return " ".join([verb, *flags, f"[{words}]"])
        return " ".join([verb, *flags, *sources, destination])

    def _source(self, origin: str | None) -> str:
        if origin and self._maybe(0.6):
            return self._pick(["/o", "/o/", "/q", "/f", "/l", "/o/*", "/o/p", "/*", "/q/r", "/etc/passwd", "o/*.txt"])
        if self._maybe(0.35):
            return self._pick(PATTERNS)
        paths = list(self.case_.context) + ["."]
        path = self._pick(paths)
        form = self.random.random()
        if form < 0.1:
            return f"./{path}"
        if form < 0.2:
            return f"/{path}"
        if form < 0.25:
            return f"{path}/"
        if form < 0.3:
            return f"d/../{path}"
        return path.replace("[", "[[]")

    def _env(self) -> str:
        if self._maybe(0.2):
            return f"ENV {self._pick(['V', 'U', 'W'])} {self._word()} {self._word()}"
        pairs = [f"{self._pick(['V', 'U', 'W', 'X'])}={self._word()}" for _ in range(self._pick([1, 1, 2]))]
        return "ENV " + self._pick([" ", " \\\n  "]).join(pairs)

    def _word(self) -> str:
        word = self._pick(WORDS)
        return f'"{word}"' if " " in word and not word.startswith(("'", '"')) and "\\" not in word else word

    def _arg(self) -> str:
        return f"ARG {self._pick(['V', 'U', 'W'])}" + (f"={self._word()}" if self._maybe(0.6) else "")

    def _workdir(self) -> str:
        return f"WORKDIR {self._pick(['/w', 'w', '/o', '/l/w', '$V', '/a/../b', '${U:-u}/v', '/'])}"

    def _config(self) -> str:
        choices = [
            lambda: f"LABEL {self._pick(['l', 'a.b', '$V', 'm'])}={self._word()}",
            lambda: f"LABEL l={self._word()} m={self._word()}",
            lambda: "EXPOSE " + self._pick(["80", "80/udp", "80 443/tcp", "1-3", "${P:-7}"]),
            lambda: "VOLUME " + self._pick(["/v", '["/v", "/u"]', "/v $V", "v"]),
            lambda: "USER " + self._pick(["1000", "root", "5:6", "${U:-app}"]),
            lambda: "CMD " + self._pick(['["a", "b"]', "echo $V", "[a, b]", '["a"', "[]"]),
            lambda: "ENTRYPOINT " + self._pick(['["/e"]', "exec $V", "[]"]),
            lambda: "STOPSIGNAL " + self._pick(["SIGTERM", "9", "$V"]),
            lambda: 'SHELL ["/bin/sh", "-ec"]',
            lambda: "ONBUILD " + self._pick(["COPY . /x", "ENV A=$V", "RUN true"]),
            lambda: "HEALTHCHECK " + self._pick(["NONE", "CMD x $V", '--interval=5s --retries=2 CMD ["a"]']),
            lambda: "MAINTAINER me $V",
        ]
        if self.has_shell:
            choices += [lambda: f"RUN echo {self._word()} > /r"]
        return self._pick(choices)()

    def _heredoc(self) -> str:
        name = self._pick(["EOF", "'EOF'", '"EOF"', "f.txt"])
        dash = self._pick(["", "", "-"])
        lines = [self._pick(["x", "$V", "\\$V", "${U:-d}", "\ttab", "a \\", "", "'q' \"r\"", "\\n"]) for _ in range(3)]
        flags = self._pick(["", "--chmod=755 ", "--chown=5:6 "])
        end = name.strip("'\"")
        return "\n".join([f"COPY {flags}<<{dash}{name} {self._pick(DESTINATIONS)}", *lines, end])


def _json(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
