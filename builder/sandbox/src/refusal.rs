//! Why the machine allows no namespaces, and the one setting that would.
#![expect(
    clippy::disallowed_methods,
    reason = "settings of the machine below /proc"
)]

use std::fmt;
use std::io;

/// Why no user namespace can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: String,
    cause: Cause,
}

/// What refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A system call filter, as container runtimes install by default.
    Filter,
    /// `user.max_user_namespaces` or another limit below it.
    Limit,
    /// Debian's `kernel.unprivileged_userns_clone`.
    DebianSwitch,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
    AppArmor,
    /// An AppArmor profile, as Docker gives to containers: it refuses mounts.
    Profile,
    /// Something else.
    Other,
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// `Seccomp:` of `/proc/self/status`.
    seccomp: Option<String>,
    max_user_namespaces: Option<String>,
    unprivileged_userns_clone: Option<String>,
    apparmor_restrict: Option<String>,
    /// The AppArmor profile of this process: `unconfined`, or `NAME (enforce)`.
    profile: Option<String>,
}

impl Machine {
    fn here() -> Self {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned())
        };
        let status = read("/proc/self/status").unwrap_or_default();
        let seccomp = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        Self {
            seccomp: seccomp.map(|mode| mode.trim().to_owned()),
            max_user_namespaces: read("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            profile: read("/proc/self/attr/apparmor/current")
                .or_else(|| read("/proc/self/attr/current")),
        }
    }

    fn cause(&self, errno: i32) -> Cause {
        let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
        if errno == libc::ENOSPC || is(&self.max_user_namespaces, "0") {
            Cause::Limit
        } else if is(&self.unprivileged_userns_clone, "0") {
            Cause::DebianSwitch
        } else if errno == libc::EACCES && self.is_confined() {
            Cause::Profile
        } else if is(&self.seccomp, "2") {
            Cause::Filter
        } else if is(&self.apparmor_restrict, "1") {
            Cause::AppArmor
        } else {
            Cause::Other
        }
    }

    fn is_confined(&self) -> bool {
        let profile = self.profile.as_deref();
        profile.is_some_and(|profile| profile.ends_with("(enforce)"))
    }
}

impl Refusal {
    /// Looks for what refused, from the error of `unshare(2)` or of a write to `uid_map`.
    pub(crate) fn of(error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        Self {
            reason: error.to_string(),
            cause: Machine::here().cause(errno),
        }
    }

    #[cfg(test)]
    pub(crate) fn of_errno(errno: i32) -> Self {
        Self::of(&io::Error::from_raw_os_error(errno))
    }

    /// The setting that would allow user namespaces, in words that end a sentence.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self.cause {
            Cause::Filter => {
                "the container's seccomp profile refuses them: in Kubernetes set the container's \
                 securityContext.seccompProfile.type to Unconfined, in Docker give --security-opt \
                 seccomp=unconfined"
            }
            Cause::Limit => {
                "the limit is reached: on the host, 'sysctl -w user.max_user_namespaces=10000'"
            }
            Cause::DebianSwitch => {
                "the kernel is set to refuse them: on the host, 'sysctl -w \
                 kernel.unprivileged_userns_clone=1'"
            }
            Cause::AppArmor => {
                "AppArmor restricts them: on the host, 'sysctl -w \
                 kernel.apparmor_restrict_unprivileged_userns=0', or a profile for kiln that \
                 allows userns"
            }
            Cause::Profile => {
                "the container's AppArmor profile refuses them: in Kubernetes set the container's \
                 securityContext.appArmorProfile.type to Unconfined, in Docker give --security-opt \
                 apparmor=unconfined"
            }
            Cause::Other => "the kernel refuses them; run kiln as root",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no user namespace can be made ({}): {}",
            self.reason,
            self.setting()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_setting_that_is_in_the_way() {
        let machine = |seccomp: &str, max: &str, clone: &str, apparmor: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Machine {
                seccomp: some(seccomp),
                max_user_namespaces: some(max),
                unprivileged_userns_clone: some(clone),
                apparmor_restrict: some(apparmor),
                profile: None,
            }
        };
        let confined = |profile: &str| Machine {
            profile: Some(profile.to_owned()),
            ..machine("2", "63000", "1", "")
        };
        let cases = [
            (machine("2", "63000", "", ""), libc::EPERM, Cause::Filter),
            (machine("2", "0", "", ""), libc::ENOSPC, Cause::Limit),
            (machine("0", "63000", "", ""), libc::ENOSPC, Cause::Limit),
            (
                machine("0", "63000", "0", ""),
                libc::EPERM,
                Cause::DebianSwitch,
            ),
            (
                machine("0", "63000", "1", "1"),
                libc::EACCES,
                Cause::AppArmor,
            ),
            (machine("0", "63000", "1", "0"), libc::EPERM, Cause::Other),
            (machine("", "", "", ""), libc::EINVAL, Cause::Other),
            (
                confined("docker-default (enforce)"),
                libc::EACCES,
                Cause::Profile,
            ),
            (
                confined("docker-default (enforce)"),
                libc::EPERM,
                Cause::Filter,
            ),
            (confined("unconfined"), libc::EACCES, Cause::Filter),
        ];
        for (machine, errno, cause) in cases {
            assert_eq!(machine.cause(errno), cause, "{machine:?}");
        }
    }
}
