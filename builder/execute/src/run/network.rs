//! Which network a step gets.

use kiln_graph::Network;

/// The network of steps that don't say which they want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultNetwork {
    /// The host's own.
    #[default]
    Host,
    /// Loopback only.
    None,
    /// A network of its own, connected to the host's by `pasta`.
    Sandbox,
}

impl From<DefaultNetwork> for Network {
    /// The host's own is the usual one, which keys of steps leave out.
    fn from(given: DefaultNetwork) -> Self {
        match given {
            DefaultNetwork::Host => Self::Default,
            DefaultNetwork::None => Self::None,
            DefaultNetwork::Sandbox => Self::Sandbox,
        }
    }
}

/// The network of a step: what it asks for, but never more than the user gave. The host's own is
/// left to [`kiln_solve::check_entitlements`].
pub(crate) fn granted(asked: Network, given: DefaultNetwork) -> kiln_sandbox::Network {
    use kiln_sandbox::Network as Granted;
    match asked.within(given.into()) {
        Network::None => Granted::None,
        Network::Sandbox => Granted::Sandbox,
        Network::Host | Network::Default => Granted::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_sandbox::Network as Granted;

    #[test]
    fn a_step_has_no_more_network_than_the_user_gave() {
        let given = [
            DefaultNetwork::None,
            DefaultNetwork::Sandbox,
            DefaultNetwork::Host,
        ];
        let cases = [
            (Network::None, [Granted::None; 3]),
            (
                Network::Sandbox,
                [Granted::None, Granted::Sandbox, Granted::Sandbox],
            ),
            (
                Network::Default,
                [Granted::None, Granted::Sandbox, Granted::Host],
            ),
        ];
        for (asked, want) in cases {
            assert_eq!(given.map(|given| granted(asked, given)), want, "{asked:?}");
        }
    }
}
