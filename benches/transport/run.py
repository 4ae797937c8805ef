#!/usr/bin/env python3
"""What an update of an image ships: whole layers, kiln's differences, and what they are held against.

Makes pairs of images from successive releases on PyPI, npm and in Debian, pushes both to a registry
with and without a difference, and counts bytes and requests. Writes a table in Markdown to standard
output, and JSON to --json. Needs: kiln, a registry (--registry), pip, npm, dpkg-deb, apt-get, zstd.

A pair is {name, old: [package...], new: [package...]}; a package is pypi:NAME==VERSION,
npm:NAME@VERSION or deb:NAME=VERSION.
"""

import argparse, hashlib, http.client, json, os, pathlib, shutil, subprocess, sys, tarfile, time, zipfile

PAIRS = [
    ("base: libssl3, libc6", ["deb:libssl3=3.0.20-1~deb12u2", "deb:libc6=2.36-9+deb12u7"],
     ["deb:libssl3=3.0.22-1~deb12u2", "deb:libc6=2.36-9+deb12u14"]),
    ("interpreter: python3.11", ["deb:python3.11-minimal=3.11.2-6+deb12u8", "deb:libpython3.11-stdlib=3.11.2-6+deb12u8"],
     ["deb:python3.11-minimal=3.11.2-6+deb12u9", "deb:libpython3.11-stdlib=3.11.2-6+deb12u9"]),
    ("framework patch: django", ["pypi:django==5.1.4"], ["pypi:django==5.1.5"]),
    ("native library: numpy", ["pypi:numpy==2.2.1"], ["pypi:numpy==2.2.2"]),
    ("tool: typescript", ["npm:typescript@5.6.2"], ["npm:typescript@5.6.3"]),
    ("Node application: next", ["npm:next@14.2.24"], ["npm:next@14.2.25"]),
    ("Rust binary: ruff", ["pypi:ruff==0.8.4"], ["pypi:ruff==0.8.5"]),
    ("application line", ["pypi:django==5.1.4", "line:1"], ["pypi:django==5.1.4", "line:2"]),
    ("everything at once", ["deb:libssl3=3.0.20-1~deb12u2", "pypi:django==5.1.4", "pypi:numpy==2.2.1", "npm:typescript@5.6.2", "line:1"],
     ["deb:libssl3=3.0.22-1~deb12u2", "pypi:django==5.1.5", "pypi:numpy==2.2.2", "npm:typescript@5.6.3", "line:2"]),
    ("large native: chromium", ["deb:chromium=150.0.7871.100-1~deb12u1"], ["deb:chromium=156.0.8078.108-1~deb12u1"]),
]
ACCEPT = ", ".join([
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json"])


def run(*words, cwd=None, env=None):
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done


def fetch(package, cache):
    """The files of a package, in a directory that is made once."""
    place = cache / hashlib.sha256(package.encode()).hexdigest()[:16]
    if place.exists():
        return place
    aside = place.with_suffix(".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    kind, name = package.split(":", 1)
    root = aside / "root"
    root.mkdir()
    if kind == "pypi":
        run("pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", aside, name)
        wheel = next(aside.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / "usr/lib/python3/site-packages")
    elif kind == "npm":
        run("npm", "pack", "--silent", name, cwd=aside)
        with tarfile.open(next(aside.glob("*.tgz"))) as archive:
            archive.extractall(root / "usr/lib/node_modules" / name.split("@")[0], filter="data")
    elif kind == "deb":
        run("apt-get", "download", "-qq", name, cwd=aside)
        run("dpkg-deb", "-x", next(aside.glob("*.deb")), root)
    elif kind == "line":
        (root / "app").mkdir()
        (root / "app/main.py").write_text(f"print({name})\n")
    # As a checkout or a package's own times: both versions have those of their files.
    aside.rename(place)
    return place


def tree(packages, cache, context):
    shutil.rmtree(context, ignore_errors=True)
    (context / "files").mkdir(parents=True)
    lines = ["FROM scratch"]
    for number, package in enumerate(packages):
        shutil.copytree(fetch(package, cache) / "root", context / f"files/{number}", symlinks=True)
        lines.append(f"COPY files/{number}/ /")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    merged = context / "merged"
    for number in range(len(packages)):
        shutil.copytree(context / f"files/{number}", merged, symlinks=True, dirs_exist_ok=True)
    return merged


class Registry:
    def __init__(self, host):
        self.host = host

    def get(self, path):
        connection = http.client.HTTPConnection(self.host)
        connection.request("GET", path, headers={"Accept": ACCEPT})
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None

    def image(self, repository, tag):
        manifest = self.get(f"/v2/{repository}/manifests/{tag}")
        digest = hashlib.sha256(manifest).hexdigest()
        return json.loads(manifest), len(manifest), digest

    def delta(self, repository, digest):
        """The bytes and requests of the only difference to an image, and those that are its layers."""
        listing = self.get(f"/v2/{repository}/manifests/sha256-{digest}")
        if listing is None:
            return None
        artifact = json.loads(listing)["manifests"][0]["digest"]
        body = self.get(f"/v2/{repository}/manifests/{artifact}")
        layers = [layer for layer in json.loads(body)["layers"]
                  if layer["annotations"]["io.github.containers.delta.content"] == "image-layer"]
        return {"bytes": len(listing) + len(body) + sum(layer["size"] for layer in layers),
                "requests": 2 + len(layers)}


def changed(old, new):
    """Files of the new tree that the old one has not, or otherwise."""
    for path in sorted(new.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        before = old / path.relative_to(new)
        if before.is_file() and not before.is_symlink():
            if before.read_bytes() != path.read_bytes():
                yield before, path
        else:
            yield None, path


def patches(old, new, level, work):
    """The sum of zstd --patch-from over the changed files, and of the changed files alone."""
    patched = whole = count = 0
    out = work / "patch"
    for before, after in changed(old, new):
        count += 1
        flags = ["-q", "-f", f"-{level}", "--long=27", "-o", out, after]
        run("zstd", "-q", "-f", "-3", "-o", out, after)
        alone = out.stat().st_size
        whole += alone
        if before is None:
            patched += alone
            continue
        run("zstd", f"--patch-from={before}", *flags)
        patched += min(out.stat().st_size, alone)
    return patched, whole, count


def measure(args, name, old, new):
    registry = Registry(args.registry)
    cache, work = pathlib.Path(args.cache), pathlib.Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    trees = [tree(packages, cache, work / side) for packages, side in ((old, "old"), (new, "new"))]
    patched, whole, count = patches(*trees, 3, work)
    row = {"pair": name, "changed files": count, "changed files zstd -3": whole, "patch-from -3": patched}
    env = {**os.environ, "KILN_ROOT": str(work / "store")}
    slug = hashlib.sha256(name.encode()).hexdigest()[:10]
    for plan in args.plans:
        for codec in args.codecs:
            repository = f"transport/{slug}-{plan.split(':')[0]}-{codec}"
            for level in args.levels:
                for side, flags in (("old", []), ("new", ["--delta-from", "old", "--delta-level", level])):
                    image = f"{args.registry}/{repository}-{level}:{side}"
                    output = f"type=image,name={image},push=true,compression={codec}"
                    began = time.monotonic()
                    run(args.kiln, "build", work / side, "--push", "-t", image, "-o", output,
                        "--layers", plan, "--provenance=false", "--progress", "plain", *flags, env=env)
                    took = time.monotonic() - began
                before, _, _ = registry.image(f"{repository}-{level}", "old")
                after, size, digest = registry.image(f"{repository}-{level}", "new")
                known = {layer["digest"] for layer in before["layers"]}
                missing = [layer["size"] for layer in after["layers"] if layer["digest"] not in known]
                base = size + after["config"]["size"]
                key = f"{plan} {codec}"
                row[f"{key}: layers"] = {"bytes": base + sum(missing), "requests": 2 + len(missing)}
                delta = registry.delta(f"{repository}-{level}", digest)
                if delta:
                    # The manifest and the configuration are fetched as ever.
                    row[f"{key}: delta {level}"] = {"bytes": base + delta["bytes"], "requests": 2 + delta["requests"],
                                                    "seconds to build and push": round(took, 1)}
                else:
                    row[f"{key}: delta {level}"] = row[f"{key}: layers"]
                row[f"{key}: exact"] = pull(args, work, env, f"{args.registry}/{repository}-{level}", digest)
    shutil.rmtree(work)
    return row


def pull(args, work, env, image, digest):
    """Pulls the new image where the old one is; it must be the very image."""
    receiver = {**env, "KILN_ROOT": str(work / "receiver")}
    shutil.rmtree(work / "receiver", ignore_errors=True)
    run(args.kiln, "image", "pull", f"{image}:old", env=receiver)
    began = time.monotonic()
    said = run(args.kiln, "image", "pull", f"{image}:new", env=receiver).stderr
    took = time.monotonic() - began
    raw = subprocess.run([args.kiln, "image", "inspect", f"{image}:new", "--raw"], env=receiver, capture_output=True).stdout
    if hashlib.sha256(raw).hexdigest() != digest:
        sys.exit(f"{image}: the image that was pulled is another one")
    return {"by difference": "pull difference" in said, "seconds to pull": round(took, 1)}


def human(bytes):
    return f"{bytes / 1000:,.1f}"


def table(rows, args):
    head = ["pair", "files", "changed files", "patch-from -3"]
    columns = []
    for plan in args.plans:
        for codec in args.codecs:
            columns += [f"{plan} {codec}: {what}" for what in ["layers"] + [f"delta {level}" for level in args.levels]]
    lines = ["| " + " | ".join(head + columns) + " |", "|" + "---|" * (len(head) + len(columns))]
    for row in rows:
        cells = [row["pair"], str(row["changed files"]), human(row["changed files zstd -3"]), human(row["patch-from -3"])]
        cells += [human(row[column]["bytes"]) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "kB on the wire, manifests and lists included.\n\n" + "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", default="kiln")
    parser.add_argument("--registry", default="127.0.0.1:5000")
    parser.add_argument("--cache", default=os.path.expanduser("~/.cache/kiln-transport"))
    parser.add_argument("--work", default="/tmp/kiln-transport")
    parser.add_argument("--only", help="pairs whose names contain this")
    parser.add_argument("--without", help="no pairs whose names contain this")
    parser.add_argument("--plans", nargs="+", default=["per-step", "auto:8"])
    parser.add_argument("--codecs", nargs="+", default=["gzip", "zstd"])
    parser.add_argument("--levels", nargs="+", default=["fast", "best"])
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = []
    for name, old, new in PAIRS:
        if (args.only and args.only not in name) or (args.without and args.without in name):
            continue
        rows.append(measure(args, name, old, new))
        print(json.dumps(rows[-1]), file=sys.stderr)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows, args))


if __name__ == "__main__":
    main()
