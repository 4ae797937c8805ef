//! The program name `buildkitd`: `kiln serve` with BuildKit's flags.

use clap::Parser;
use kiln::Error;
use kiln_serve::Address;

use super::Failed;
use super::buildkitd_file::{Amount, File};
use super::serve::ServeArgs;

/// The name that the program is called by.
pub(crate) const NAME: &str = "buildkitd";
/// Where BuildKit looks for its file.
const FILE: &str = "/etc/buildkit/buildkitd.toml";

/// Flags about what kiln doesn't have, which take no value but one behind `=`.
const SWITCHES: [&str; 7] = [
    "--debug",
    "--trace",
    "--cdi-disabled",
    "--save-cache-debug",
    "--rootless",
    "--oci-worker-rootless",
    "--oci-worker-no-process-sandbox",
];

/// Flags about what kiln doesn't have, which take a value.
const VALUES: [&str; 14] = [
    "--log-format",
    "--log-level",
    "--debugaddr",
    "--otel-socket-path",
    "--cdi-spec-dir",
    "--oci-worker",
    "--oci-worker-labels",
    "--oci-worker-snapshotter",
    "--oci-worker-proxy-snapshotter-path",
    "--oci-worker-platform",
    "--oci-worker-binary",
    "--oci-cni-config-path",
    "--oci-cni-binary-dir",
    "--oci-cni-pool-size",
];

/// The flags of the containerd worker that take no value.
const CONTAINERD_SWITCHES: [&str; 3] = [
    "--containerd-worker-selinux",
    "--containerd-worker-rootless",
    "--containerd-worker-gc",
];

/// BuildKit's daemon, as kiln is it
#[derive(Parser, Debug)]
#[command(name = "buildkitd", version)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
    #[arg(long = "oci-worker-net", hide = true)]
    network: Option<String>,
    #[arg(long = "oci-max-parallelism", hide = true)]
    parallelism: Option<usize>,
    #[arg(long = "oci-worker-apparmor-profile", hide = true)]
    apparmor: Option<String>,
    #[arg(long = "oci-worker-selinux", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    selinux: Option<bool>,
    #[arg(long = "proxy-network", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    proxy: Option<bool>,
    #[arg(long = "oci-worker-gc", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    gc: Option<bool>,
    #[arg(long = "oci-worker-gc-keepstorage", hide = true)]
    keep_storage: Option<String>,
}

/// Runs the program with the words after its name.
pub(crate) fn run(words: &[String]) -> Result<(), Failed> {
    let words = with_effect(words);
    let flags = Flags::try_parse_from([NAME].into_iter().chain(words));
    let mut flags = match flags {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let file = match &flags.serve.config {
        Some(path) => File::read(path)?,
        None => match File::read(FILE.as_ref()) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                File::default()
            }
            read => read?,
        },
    };
    let file = flags.over(file);
    flags.serve.default_address = Some(Address::Unix("/run/buildkit/buildkitd.sock".into()));
    super::serve::run_with(&flags.serve, &file)
}

/// The words that mean something here.
fn with_effect(words: &[String]) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (name, has_value) = match word.split_once('=') {
            Some((name, _)) => (name, true),
            None => (word, false),
        };
        let is_other = name.starts_with("--containerd-") && !CONTAINERD_SWITCHES.contains(&name);
        if VALUES.contains(&name) || is_other {
            if !has_value {
                _ = words.next();
            }
        } else if !SWITCHES.contains(&name) && !CONTAINERD_SWITCHES.contains(&name) {
            kept.push(word);
        }
    }
    kept
}

impl Flags {
    /// Puts the flags over what the file says.
    fn over(&mut self, mut file: File) -> File {
        let worker = &mut file.worker.oci;
        worker.network_mode = self.network.take().or(worker.network_mode.take());
        worker.max_parallelism = self.parallelism.unwrap_or(worker.max_parallelism);
        worker.apparmor_profile = self.apparmor.take().or(worker.apparmor_profile.take());
        worker.selinux = self.selinux.unwrap_or(worker.selinux);
        worker.gc = self.gc.or(worker.gc);
        let keep = self.keep_storage.as_deref().map(Amount::text);
        worker.gc_keep_storage = keep.or(worker.gc_keep_storage.take());
        file.proxy_network = self.proxy.unwrap_or(file.proxy_network);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_about_what_is_not_there_are_left_out_with_their_values() {
        let all = words(
            "--oci-worker-snapshotter overlayfs --debug --oci-worker=true --addr unix:///x --containerd-worker false --containerd-worker-gc --oci-worker-labels=a=b --root /r",
        );
        assert_eq!(with_effect(&all), ["--addr", "unix:///x", "--root", "/r"]);
    }

    #[test]
    fn flags_come_before_the_file() {
        let all = words(
            "buildkitd --oci-worker-net none --oci-max-parallelism=3 --oci-worker-gc=false --proxy-network",
        );
        let mut flags = Flags::try_parse_from(all).unwrap();
        let file = flags.over(File::default());
        let worker = &file.worker.oci;
        assert_eq!(worker.network_mode.as_deref(), Some("none"));
        assert_eq!((worker.max_parallelism, worker.gc), (3, Some(false)));
        assert!(file.settings(0).is_err());
    }
}
