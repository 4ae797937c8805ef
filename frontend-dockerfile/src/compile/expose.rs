//! EXPOSE: `[[IP:]HOST-PORT:]PORT[-PORT][/PROTOCOL]`.

use std::net::IpAddr;

use crate::Rule;
use crate::limits::MAX_PORTS;
use crate::lint::{At, Linter};

/// The ports that words name, each by itself: `80/tcp`.
pub(super) fn parse_ports(
    words: &[String],
    at: At<'_>,
    lint: &mut Linter,
) -> Result<Vec<String>, String> {
    let mut ports = Vec::new();
    for word in words {
        ports.extend(parse(word, at, lint)?);
        if ports.len() > MAX_PORTS {
            return Err(format!("EXPOSE names more than {MAX_PORTS} ports"));
        }
    }
    Ok(ports)
}

fn parse(word: &str, at: At<'_>, lint: &mut Linter) -> Result<Vec<String>, String> {
    let (address, host, container) = parts(word);
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    let invalid = |reason: String| format!("invalid port: {}: {reason}", crate::quote::quote(word));
    if container.is_empty() {
        return Err(invalid("no port specified".to_owned()));
    }
    let lower = protocol.to_ascii_lowercase();
    let lower = match lower.as_str() {
        "" => "tcp",
        known @ ("tcp" | "udp" | "sctp") => known,
        _ => {
            return Err(invalid(format!(
                "invalid proto: {protocol}; use tcp, udp or sctp"
            )));
        }
    };
    if protocol.chars().any(|c| c.is_ascii_uppercase()) {
        let message =
            format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        lint.warn(at, Rule::ExposeProtoCasing, message);
    }
    if !address.is_empty() || !host.is_empty() {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        );
        lint.warn(at, Rule::ExposeInvalidFormat, message);
    }
    check_address(address)?;
    let (first, last) =
        range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    if !host.is_empty() {
        let (from, to) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last - first != to - from && first != last {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{lower}"))
        .collect())
}

/// Address, host's port, container's port.
fn parts(word: &str) -> (&str, &str, &str) {
    match word.rsplit_once(':') {
        None => ("", "", word),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let bare = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    match address.is_empty() || bare.parse::<IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(format!("invalid IP address: {address}")),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) if first != last => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
        Some((only, _)) => number(only).map(|port| (port, port)),
        None => number(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::lines;

    #[test]
    fn ports() {
        let location = lines(&"Dockerfile".into(), 1, 1);
        let read = |word: &str| {
            let mut lint = Linter::default();
            let ports = parse(word, At::only(&location), &mut lint);
            let rules: Vec<&str> = lint.found().iter().map(|found| found.rule.name()).collect();
            (ports.map(|ports| ports.join(" ")), rules.join(" "))
        };
        let good = [
            ("80", "80/tcp", ""),
            ("80/", "80/tcp", ""),
            ("80-82/UDP", "80/udp 81/udp 82/udp", "ExposeProtoCasing"),
            ("8080:80", "80/tcp", "ExposeInvalidFormat"),
            ("127.0.0.1:8080:80/tcp", "80/tcp", "ExposeInvalidFormat"),
            ("[::1]::80", "80/tcp", "ExposeInvalidFormat"),
            ("8000-9000:80", "80/tcp", "ExposeInvalidFormat"),
        ];
        for (word, want, rules) in good {
            assert_eq!(
                read(word),
                (Ok(want.to_owned()), rules.to_owned()),
                "{word}"
            );
        }
        let bad = [
            ("x", "invalid containerPort: x"),
            ("80/foo", "invalid proto: foo"),
            ("/tcp", "no port specified"),
            ("65536", "invalid containerPort"),
            ("82-80", "invalid containerPort: 82-80"),
            ("a:80", "invalid hostPort: a"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("1-3:80-81", "invalid ranges specified"),
        ];
        for (word, want) in bad {
            let error = read(word).0.unwrap_err();
            assert!(error.contains(want), "{word}: {error}");
        }
    }
}
