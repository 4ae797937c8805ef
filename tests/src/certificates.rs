//! Certificates for servers of this machine and their clients.

use std::path::Path;

use crate::shell;

/// Makes an authority (`ca.pem`), certificates of it for `server` and `client`, and one of nobody's,
/// `other`, in a directory: each `NAME.pem` and `NAME.key`.
pub fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
            -days 2 -subj /CN=authority 2>/dev/null
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr \
                -subj /CN=$name 2>/dev/null
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' > ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile ext -out $name.pem 2>/dev/null
        done
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem \
            -days 2 -subj /CN=other 2>/dev/null";
    _ = shell(directory, script);
}
