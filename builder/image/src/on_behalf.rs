//! Requests on behalf of somebody who has let themselves in: with the header that they sent, and nothing
//! of the user's.

use std::sync::PoisonError;

use kiln_graph::BlobDigest;
use reqwest::header::{CONTENT_LENGTH, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};

use crate::request::{Ask, Rights};
use crate::{Client, ImageError, Reference};

impl Client {
    /// Reads a repository with this `Authorization` header from now on.
    pub fn authorize(&self, image: &Reference, authorization: &str) {
        let name = Rights::Pull.token_name(image);
        let mut tokens = self.tokens().lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(name, authorization.to_owned());
    }

    /// The length of a blob of a repository, which the registry says only to those who may read it.
    ///
    /// # Errors
    /// When it isn't there, or may not be read.
    pub fn blob_size(&self, image: &Reference, digest: &BlobDigest) -> Result<u64, ImageError> {
        let url = format!("{}/blobs/{digest}", self.home(image));
        let answer = self.wait_for(self.send(image, &Ask::new(Method::HEAD, url)))?;
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|text| text.to_str().ok()?.parse().ok());
        length.ok_or_else(|| ImageError::Document {
            image: image.to_string(),
            reason: format!("the registry doesn't say how long blob {digest} is"),
        })
    }

    /// How a registry wants people to log in: its `WWW-Authenticate` header. Nothing when it lets
    /// everybody in, or can't be asked.
    #[must_use]
    pub fn challenge(&self, host: &str) -> Option<String> {
        let image: Reference = format!("{host}/any").parse().ok()?;
        let home = self.home(&image);
        let (base, _) = home.split_once("/v2/")?;
        let ask = Ask::new(Method::GET, format!("{base}/v2/"));
        let answer = self.wait_for(async {
            let answer = self.once(&image, &ask).await;
            answer.map_err(|error| crate::error::unreachable(&image, &error))
        });
        let answer = answer
            .ok()
            .filter(|answer| answer.status() == StatusCode::UNAUTHORIZED)?;
        let challenge = answer.headers().get(WWW_AUTHENTICATE)?;
        challenge.to_str().ok().map(str::to_owned)
    }
}
