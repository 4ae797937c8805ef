//! What the user gave a build: the images and paths of this machine that its file may name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kiln_frontend_dockerfile::ContextKind;
use kiln_graph::Entitlements;
use kiln_image::ImageName;

use crate::DockerfileRequest;

/// What the user gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Images that stand for named contexts, as the user wrote them.
    images: BTreeSet<String>,
    allowed: Entitlements,
}

impl Given {
    pub(crate) fn of(request: &DockerfileRequest) -> Self {
        let contexts = request.options.contexts.values();
        let images = contexts.filter_map(|kind| match kind {
            ContextKind::Image(name) => Some(name.clone()),
            ContextKind::Local | ContextKind::Target(_) => None,
        });
        Self {
            images: images.collect(),
            allowed: request.allowed.clone(),
        }
    }

    /// Whether a build may use an image of this name. Those of registries, and of the store under
    /// the same names, are everybody's; archives, layouts and the daemon's are the user's to give.
    pub(crate) fn has_image(&self, name: &str) -> bool {
        let path = match name.parse() {
            Ok(ImageName::Registry(_)) | Err(_) => return true,
            _ if self.images.contains(name) => return true,
            Ok(ImageName::Daemon(_)) => return false,
            Ok(
                ImageName::Layout {
                    directory: path, ..
                }
                | ImageName::Archive { file: path, .. },
            ) => path,
        };
        self.may_read(&path)
    }

    fn may_read(&self, path: &PathBuf) -> bool {
        let path = std::fs::canonicalize(path);
        path.is_ok_and(|path| self.allowed.may_read(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_this_machine_are_given_by_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().canonicalize().unwrap();
        let mut request = DockerfileRequest::default();
        let image = ContextKind::Image("oci-archive:/srv/base.tar".to_owned());
        request.options.contexts.insert("base".to_owned(), image);
        request.allowed.read.push(inside.clone());
        let given = Given::of(&request);
        let within = format!("oci-layout://{}", inside.display());
        for name in [
            "busybox",
            "docker-image://busybox",
            "oci-archive:/srv/base.tar",
            &within,
        ] {
            assert!(given.has_image(name), "{name}");
        }
        let outside = format!("oci:{}/..", inside.display());
        for name in [
            "oci-archive:/srv/other.tar",
            "oci-layout:///srv/base",
            "docker-archive:x.tar",
            "docker-daemon:base",
            &outside,
        ] {
            assert!(!given.has_image(name), "{name}");
        }
    }
}
