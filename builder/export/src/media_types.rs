//! What manifests call their parts: OCI's names, or Docker's (image manifest version 2, schema 2).

use kiln_image::media_type;

use crate::image_options::ImageOptions;

const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The media types of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaTypes {
    pub(crate) manifest: &'static str,
    pub(crate) config: &'static str,
    is_docker: bool,
}

impl MediaTypes {
    pub(crate) fn of(options: &ImageOptions) -> Self {
        match options.docker_types {
            true => Self {
                manifest: media_type::DOCKER_MANIFEST,
                config: media_type::DOCKER_CONFIG,
                is_docker: true,
            },
            false => Self {
                manifest: media_type::MANIFEST,
                config: media_type::CONFIG,
                is_docker: false,
            },
        }
    }

    /// A layer's, given OCI's name of it.
    pub(crate) fn layer(self, oci: &str) -> String {
        let suffix = oci.strip_prefix("application/vnd.oci.image.layer.v1.tar");
        match (self.is_docker, suffix) {
            (true, Some(suffix)) => {
                let suffix = suffix.replace('+', ".");
                format!("{DOCKER_LAYER}{suffix}")
            }
            _ => oci.to_owned(),
        }
    }

    /// The index's over manifests of this type.
    pub(crate) fn index(manifest: &str) -> &'static str {
        match manifest == media_type::DOCKER_MANIFEST {
            true => media_type::DOCKER_LIST,
            false => media_type::INDEX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_dockers_names() {
        let docker = MediaTypes::of(&ImageOptions {
            docker_types: true,
            ..ImageOptions::default()
        });
        for (oci, want) in [
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            (
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.docker.image.rootfs.diff.tar",
            ),
            ("application/x-other", "application/x-other"),
        ] {
            assert_eq!(docker.layer(oci), want);
            assert_eq!(MediaTypes::of(&ImageOptions::default()).layer(oci), oci);
        }
    }
}
