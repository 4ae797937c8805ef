//! Lines of `/etc/hosts` that a user adds.

use std::net::IpAddr;

/// Stands for the address under which a command reaches the machine that builds.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Reads `NAME:ADDRESS` or `NAME=ADDRESS` as `docker build --add-host` does: IPv6 addresses may have
/// brackets, and [`HOST_GATEWAY`] is an address, too.
///
/// # Errors
/// In words, when it is none.
pub fn parse_extra_host(text: &str) -> Result<(String, String), String> {
    let bad = |reason: &str| format!("'{text}' {reason}: write NAME:ADDRESS");
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = pair.ok_or_else(|| bad("has no address"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad("has no name of a host"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    if address != HOST_GATEWAY && address.parse::<IpAddr>().is_err() {
        return Err(bad("has no IP address"));
    }
    Ok((name.to_owned(), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_reads_them() {
        let cases = [
            ("my:1.2.3.4", "my", "1.2.3.4"),
            ("my=1.2.3.4", "my", "1.2.3.4"),
            ("my:::1", "my", "::1"),
            ("my=::1", "my", "::1"),
            ("my=[::1]", "my", "::1"),
            ("my:[fd00::1]", "my", "fd00::1"),
            ("my.lan:host-gateway", "my.lan", "host-gateway"),
        ];
        for (text, name, address) in cases {
            let want = Ok((name.to_owned(), address.to_owned()));
            assert_eq!(parse_extra_host(text), want, "{text}");
        }
        for bad in [
            "",
            "my",
            "my:",
            ":1.2.3.4",
            "=1.2.3.4",
            "my:hello",
            "my:999.1.1.1",
            "my:[1.2.3.4",
            "my:1.2.3.4 other",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
            "my:1.2.3.4\n",
            "my:gateway",
        ] {
            assert!(parse_extra_host(bad).is_err(), "{bad:?}");
        }
    }
}
