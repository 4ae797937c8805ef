//! Base images with one more layer, which a few lines of Python write: names, types and sizes that
//! no honest program would.

use crate::{BUSYBOX, Space, copy_to_layout, run};

/// The lines see `add(name, type, **attributes)`, `put(name, bytes)`, the open archive `tar`, and
/// `raw`, to which they may set the layer's bytes.
const MAKE: &str = r#"
import gzip, hashlib, io, json, os, sys, tarfile
layout = sys.argv[1]
index = json.load(open(layout + "/index.json"))
path = lambda digest: f"{layout}/blobs/sha256/{digest[7:]}"
manifest = json.load(open(path(index["manifests"][0]["digest"])))
config = json.load(open(path(manifest["config"]["digest"])))
out, raw = io.BytesIO(), None
tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)
def add(name, type, data=b"", pax={}, **attributes):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = type, 0o644, len(data)
    info.pax_headers = pax
    for key, value in attributes.items(): setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
def put(name, data, **more): add(name, tarfile.REGTYPE, data, **more)
DIR, LINK, HARD, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
CHAR, BLOCK = tarfile.CHRTYPE, tarfile.BLKTYPE
exec(sys.argv[2])
tar.close()
plain = out.getvalue() if raw is None else raw
def blob(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    open(path(digest), "wb").write(data)
    return {"digest": digest, "size": len(data)}
config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(plain).hexdigest())
kind = "application/vnd.oci.image.layer.v1.tar+gzip"
manifest["layers"].append(dict(blob(gzip.compress(plain, 6, mtime=0)), mediaType=kind))
manifest["config"].update(blob(json.dumps(config).encode()))
index["manifests"][0].update(blob(json.dumps(manifest).encode()))
json.dump(index, open(layout + "/index.json", "w"))
"#;

impl Space {
    /// Writes the tests' base image with one more layer as an OCI layout; gives its name, under which
    /// [`Self::command`] gives it to every build.
    #[must_use]
    pub fn image(&self, lines: &str) -> String {
        let directory = self.path("evil").display().to_string();
        _ = std::fs::remove_dir_all(&directory);
        copy_to_layout(&format!("docker://{BUSYBOX}"), &directory);
        _ = run("python3", &["-c", MAKE, &directory, lines]);
        "evil".to_owned()
    }
}
