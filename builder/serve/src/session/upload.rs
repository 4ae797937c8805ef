//! `Upload.Pull`: what a client has on its standard input.

use std::path::Path;
use std::sync::Arc;

use kiln_tree::host;
use tokio::io::AsyncWriteExt as _;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::Session;
use crate::proto::control::BytesMessage;

const PATH: &str = "/moby.upload.v1.Upload/Pull";

/// The address by which a build names an upload of its session.
const ADDRESS: &str = "http://buildkit-session/";

/// The name of the upload that an address stands for.
pub(crate) fn upload_of(address: &str) -> Option<&str> {
    address
        .strip_prefix(ADDRESS)
        .filter(|name| !name.is_empty())
}

/// Writes an upload to a file.
pub(crate) async fn pull(session: &Arc<Session>, name: &str, to: &Path) -> Result<(), Status> {
    let mut metadata = MetadataMap::new();
    let path = MetadataValue::try_from(format!("/{name}"));
    metadata.insert(
        "urlpath",
        path.map_err(|_| Status::invalid_argument("the address of an upload"))?,
    );
    metadata.insert("urlhost", MetadataValue::from_static("buildkit-session"));
    let nothing = futures_util::stream::empty::<BytesMessage>();
    let mut pieces = session.streaming(PATH, metadata, nothing).await?;
    let write =
        |error: std::io::Error| Status::internal(format!("cannot write the upload: {error}"));
    let mut file = tokio::fs::File::from_std(host::create(to).map_err(write)?);
    while let Some(piece) = pieces.message().await? {
        let piece: BytesMessage = piece;
        file.write_all(&piece.data).await.map_err(write)?;
    }
    file.flush().await.map_err(write)
}
