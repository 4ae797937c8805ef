//! OCI images: registries, layouts, archives, and layers to and from tar.

pub mod layer;
