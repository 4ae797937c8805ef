//! Opens an encrypted key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::AttestError;

/// More would take longer than any key needs: log2 of scrypt's N.
const MAX_SCRYPT_LOG_N: u8 = 20;

/// An encrypted key (`encrypted` of securesystemslib): scrypt and NaCl's secret box.
#[derive(Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Params {
    n: u64,
    #[serde(rename = "r")]
    r: u32,
    #[serde(rename = "p")]
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

pub(crate) fn open(bytes: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, AttestError> {
    let bad = |reason: &str| AttestError::Key(reason.to_owned());
    let sealed: Encrypted =
        serde_json::from_slice(bytes).map_err(|_| bad("its envelope is damaged"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(bad(
            "only scrypt with nacl/secretbox encryption is supported",
        ));
    }
    let digits = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| bad("its envelope is damaged"))
    };
    let params = scrypt_params(&sealed.kdf.params)
        .ok_or_else(|| bad("its encryption asks for more memory than any key needs"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(
        password.as_bytes(),
        &digits(&sealed.kdf.salt)?,
        &params,
        &mut *key,
    )
    .map_err(|_| bad("its envelope is damaged"))?;
    let nonce: [u8; 24] = digits(&sealed.cipher.nonce)?
        .try_into()
        .map_err(|_| bad("its envelope is damaged"))?;
    let opened = XSalsa20Poly1305::new((&*key).into())
        .decrypt(&nonce.into(), &*digits(&sealed.ciphertext)?)
        .map_err(|_| bad("the password is wrong"))?;
    Ok(Zeroizing::new(opened))
}

fn scrypt_params(params: &Params) -> Option<scrypt::Params> {
    let log_n = u8::try_from(params.n.checked_ilog2()?).ok()?;
    let is_fair =
        params.n.is_power_of_two() && log_n <= MAX_SCRYPT_LOG_N && params.r <= 32 && params.p <= 16;
    is_fair.then(|| scrypt::Params::new(log_n, params.r, params.p, 32).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::openssl;
    use crate::{SigningKey, pem};

    #[test]
    fn encrypted_keys() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        openssl(
            directory,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
        );
        let plain = std::fs::read_to_string(directory.join("key.pem")).unwrap();
        let (_, der) = pem::decode(&plain).unwrap();
        let (salt, nonce) = ([1; 32], [2; 24]);
        let mut key = [0; 32];
        let params = scrypt::Params::new(10, 8, 1, 32).unwrap();
        scrypt::scrypt(b"pass", &salt, &params, &mut key).unwrap();
        let sealed = XSalsa20Poly1305::new(&key.into())
            .encrypt(&nonce.into(), &*der)
            .unwrap();
        let envelope = serde_json::json!({
            "kdf": {"name": "scrypt", "params": {"N": 1024, "r": 8, "p": 1}, "salt": STANDARD.encode(salt)},
            "cipher": {"name": "nacl/secretbox", "nonce": STANDARD.encode(nonce)},
            "ciphertext": STANDARD.encode(sealed),
        });
        let text = pem::encode(
            "ENCRYPTED SIGSTORE PRIVATE KEY",
            envelope.to_string().as_bytes(),
        );
        assert!(SigningKey::read(&text, Some("pass")).is_ok());
        assert_eq!(
            SigningKey::read(&text, None).unwrap_err(),
            AttestError::Password
        );
        let wrong = SigningKey::read(&text, Some("no")).unwrap_err().to_string();
        assert!(wrong.contains("password is wrong"));
        let greedy = text_with_n(&envelope, 1 << 40);
        let refused = SigningKey::read(&greedy, Some("pass"))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("more memory"));
    }

    fn text_with_n(envelope: &serde_json::Value, n: u64) -> String {
        let mut envelope = envelope.clone();
        envelope["kdf"]["params"]["N"] = n.into();
        pem::encode(
            "ENCRYPTED SIGSTORE PRIVATE KEY",
            envelope.to_string().as_bytes(),
        )
    }
}
