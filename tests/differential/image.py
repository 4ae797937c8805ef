"""What an image is: its tree, its configuration, its history and its layers, read from an OCI archive."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}
XATTR = "SCHILY.xattr."


@dataclass
class Image:
    """An image, ready to be compared."""

    # By path: type, mode, owner, content, target, names of one file, attributes, and the time.
    tree: dict[str, dict]
    config: dict
    history: list[dict]
    # The paths that each layer has, with the marks of what it removes.
    layers: list[list[str]]


def read(archive: Path) -> Image:
    """Reads the only image of an archive."""
    with tarfile.open(archive) as tar:

        def blob(descriptor: dict) -> bytes:
            path = "blobs/" + descriptor["digest"].replace(":", "/")
            return tar.extractfile(path).read()

        index = json.load(tar.extractfile("index.json"))
        manifest = json.loads(blob(index["manifests"][0]))
        while "manifests" in manifest:
            manifest = json.loads(blob(manifest["manifests"][0]))
        config = json.loads(blob(manifest["config"]))
        layers = [_plain(blob(layer)) for layer in manifest["layers"] or []]
    tree: dict[str, dict] = {}
    names = [_apply(layer, tree) for layer in layers]
    _join_links(tree)
    history = [
        {key: step.get(key) for key in ("created_by", "empty_layer", "comment")} for step in config.get("history") or []
    ]
    kept = {key: config.get(key) for key in ("architecture", "os", "author", "config")}
    return Image(tree, kept, history, names)


def _plain(blob: bytes) -> bytes:
    return gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob


def _apply(layer: bytes, tree: dict[str, dict]) -> list[str]:
    """Lays a layer over a tree; the layer's paths."""
    names = []
    with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as tar:
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            if path in ("", "."):
                continue
            names.append(path)
            directory, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                _remove_below(tree, directory)
            elif name.startswith(".wh."):
                hidden = "/".join(filter(None, [directory, name[4:]]))
                tree.pop(hidden, None)
                _remove_below(tree, hidden)
            else:
                entry = _entry(tar, member, tree)
                if entry["type"] != "dir":
                    _remove_below(tree, path)
                tree[path] = entry
    return sorted(names)


def _remove_below(tree: dict[str, dict], directory: str) -> None:
    start = directory + "/" if directory else ""
    for path in [path for path in tree if path.startswith(start)]:
        del tree[path]


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: dict[str, dict]) -> dict:
    kind = KINDS[member.type]
    if kind == "hardlink":
        linked = tree[member.linkname.removeprefix("./").strip("/")]
        return linked  # The same object: names of one file.
    entry = {
        "type": kind,
        "mode": f"{member.mode & 0o7777:04o}",
        "uid": member.uid,
        "gid": member.gid,
        "mtime": int(member.mtime // 1),
        "xattrs": {
            key.removeprefix(XATTR): value for key, value in sorted(member.pax_headers.items()) if key.startswith(XATTR)
        },
    }
    if kind == "file":
        content = tar.extractfile(member).read()
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        entry["size"] = len(content)
    elif kind == "symlink":
        entry["target"] = member.linkname
        del entry["mode"]
    elif kind in ("char", "block"):
        entry["device"] = [member.devmajor, member.devminor]
    return entry


def _join_links(tree: dict[str, dict]) -> None:
    """Says of each name of a file with several which ones they are."""
    groups: dict[int, list[str]] = {}
    for path, entry in tree.items():
        groups.setdefault(id(entry), []).append(path)
    for paths in groups.values():
        for path in paths:
            tree[path] = tree[path] | ({"names": sorted(paths)} if len(paths) > 1 else {})
