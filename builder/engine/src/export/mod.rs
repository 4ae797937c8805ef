//! Makes something of results: layers, images, archives, directories; reads and changes images.

pub(crate) mod annotation;
pub(crate) mod assemble;
pub(crate) mod attach;
pub(crate) mod built;
mod created;
pub(crate) mod dependency;
pub(crate) mod extract;
pub(crate) mod image_options;
pub(crate) mod index;
mod inline;
pub(crate) mod inspect;
pub(crate) mod inventory;
mod layer_blob;
pub(crate) mod layering;
pub(crate) mod load;
pub(crate) mod local;
pub(crate) mod media_types;
pub(crate) mod output;
pub(crate) mod rebase;
pub(crate) mod reproduce;
pub(crate) mod shared_cache;
mod stored_blob;
