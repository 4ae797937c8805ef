//! Images as others see them: skopeo and umoci.

use std::path::{Path, PathBuf};

use crate::run;

/// The digest of an image in a registry.
#[must_use]
pub fn digest(name: &str) -> String {
    let name = format!("docker://{name}");
    let inspect = ["inspect", "--no-tags", "--tls-verify=false"];
    let what = ["--format", "{{.Digest}}", &name];
    let done = run("skopeo", &[&inspect[..], &what].concat());
    done.stdout.trim().to_owned()
}

/// Copies an image, named as skopeo wants it, into an OCI layout, under the tag `latest`.
pub fn copy_to_layout(image: &str, layout: &str) {
    let to = format!("oci:{layout}:latest");
    let flags = ["copy", "-q", "--src-tls-verify=false"];
    _ = run("skopeo", &[&flags[..], &[image, &to]].concat());
}

/// Unpacks an image, named as skopeo wants it, into a bundle; where its files are.
pub fn unpack(image: &str, bundle: &Path) -> PathBuf {
    let path = bundle.display().to_string();
    let layout = format!("{path}.layout");
    copy_to_layout(image, &layout);
    let from = format!("{layout}:latest");
    _ = run("umoci", &["unpack", "--image", &from, &path]);
    bundle.join("rootfs")
}
