//! How `kiln --help` groups its commands, and `kiln build --help` its flags.

use std::fmt::Write as _;

use clap::Command;

/// The groups of commands, in the order of the help.
const COMMANDS: &[(&str, &[&str])] = &[
    ("Build", &["build", "bake", "lock", "serve", "kaniko"]),
    (
        "Look at builds",
        &[
            "steps", "explain", "logs", "history", "timeline", "graph", "shell",
        ],
    ),
    ("Write build files", &["init", "convert", "fmt", "schema"]),
    (
        "Images and registries",
        &["image", "delta", "mirror", "registry", "verify", "policy"],
    ),
    ("The store", &["du", "prune", "volume", "fsck"]),
    ("This machine", &["doctor", "completions", "man"]),
];

/// The groups of flags of `kiln build`, by their ids.
pub(super) const FLAGS: &[(&str, &[&str])] = &[
    (
        "What is built",
        &[
            "file",
            "target",
            "build_args",
            "build_arg_files",
            "contexts",
            "platform",
            "labels",
            "annotations",
            "env",
            "unset_env",
            "timestamp",
            "rewrite_timestamp",
            "format",
        ],
    ),
    (
        "Where the result goes",
        &[
            "tags",
            "outputs",
            "push",
            "delta_from",
            "delta_level",
            "load",
            "exports",
            "iidfile",
            "metadata_file",
            "layers",
            "squash",
            "squash_all",
        ],
    ),
    (
        "What is said about the image",
        &["sbom", "provenance", "attest", "sign", "identity_token"],
    ),
    (
        "Which steps run",
        &[
            "no_cache",
            "no_cache_filter",
            "from",
            "until",
            "keep_going",
            "jobs",
            "executor",
            "executor_required",
            "watch",
        ],
    ),
    (
        "Shared caches",
        &[
            "cache_from",
            "cache_to",
            "cache_sign_key",
            "cache_trust",
            "volume_key",
        ],
    ),
    (
        "Base images and registries",
        &[
            "pull",
            "locked",
            "no_lock",
            "tls_verify",
            "creds",
            "cert_dir",
            "authfile",
        ],
    ),
    (
        "What steps get",
        &[
            "secrets",
            "ssh",
            "allow_secrets_in",
            "allow",
            "network",
            "isolation",
            "hosts",
            "ulimits",
            "shm_size",
        ],
    ),
    (
        "What steps may use",
        &[
            "memory",
            "memory_swap",
            "cpus",
            "cpu_shares",
            "cpu_period",
            "cpu_quota",
            "cpuset_cpus",
            "cpuset_mems",
            "resources",
            "cgroup_parent",
        ],
    ),
    (
        "What is shown",
        &[
            "progress",
            "quiet",
            "verbose",
            "explain",
            "debug",
            "otlp_endpoint",
        ],
    ),
    (
        "Checks",
        &["check", "call", "policy", "verify_reproducible"],
    ),
];

/// Gives the help its groups.
pub(crate) fn grouped(command: Command) -> Command {
    let text = commands(&command);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{text}\nOptions:\n{{options}}\n"
    );
    let with_headings = |mut build: Command| {
        for (heading, ids) in FLAGS {
            for id in *ids {
                if build.get_arguments().any(|arg| arg.get_id() == id) {
                    build = build.mut_arg(id, |arg| arg.help_heading(*heading));
                }
            }
        }
        build
    };
    without_values(command)
        .help_template(template)
        .mut_subcommand("build", with_headings)
}

/// Shows the names of variables, not what they hold: that may be a credential.
fn without_values(command: Command) -> Command {
    command
        .mut_args(|arg| arg.hide_env_values(true))
        .mut_subcommands(without_values)
}

/// The commands by groups, each with what it does.
fn commands(command: &Command) -> String {
    let mut text = String::new();
    for (group, names) in COMMANDS {
        _ = writeln!(text, "\n{group}:");
        for name in *names {
            // A build of kiln may be without some.
            if let Some(about) = command.find_subcommand(name).and_then(Command::get_about) {
                _ = writeln!(text, "  {name:<12} {about}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_command_and_flag_is_in_one_group() {
        let command = crate::command::Cli::command();
        for own in command.get_subcommands() {
            let name = own.get_name();
            let groups = COMMANDS.iter().filter(|(_, names)| names.contains(&name));
            assert_eq!(groups.count(), 1, "{name}");
        }
        let build = command.find_subcommand("build").unwrap();
        let named = |arg: &&clap::Arg| !arg.is_hide_set() && !arg.is_positional();
        for arg in build.get_arguments().filter(named) {
            let id = arg.get_id().as_str();
            let groups = FLAGS.iter().filter(|(_, ids)| ids.contains(&id));
            assert_eq!(groups.count(), 1, "{id}");
        }
    }

    #[test]
    fn groups_name_what_there_is() {
        let command = crate::command::Cli::command();
        for name in COMMANDS.iter().flat_map(|(_, names)| *names) {
            let is_optional = *name == "serve";
            assert!(
                is_optional || command.find_subcommand(name).is_some(),
                "{name}"
            );
        }
        let build = command.find_subcommand("build").unwrap();
        for id in FLAGS.iter().flat_map(|(_, ids)| *ids) {
            let is_it = |arg: &clap::Arg| arg.get_id() == id;
            // Left out of builds of kiln without traces.
            let is_optional = *id == "otlp_endpoint";
            assert!(is_optional || build.get_arguments().any(is_it), "{id}");
        }
    }
}
