//! Signing without a key that is kept: a token says who signs, Fulcio issues a certificate for a key that was
//! made for this, and Rekor notes the signature. What is asked of them, and what their answers mean; who calls
//! sends it.

mod certified;
mod fulcio;
mod rekor;
mod token;

pub use certified::{CertifiedKey, LoggedSignature};
pub use fulcio::CERTIFICATE_PATH;
pub use rekor::LogVersion;
pub use token::IdentityToken;
