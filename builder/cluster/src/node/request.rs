//! From an action's digest to an order that may be run here.

use std::collections::BTreeSet;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use kiln_graph::{Op, Platform};
use kiln_share::RemoteManifest;
use prost::Message;
use reapi::{Action, Command, Directory};
use tonic::Status;

use super::Node;
use super::blobs::Asked;
use crate::action::{ISA, OS_FAMILY, isa};
use crate::chain::MAX_STEPS;
use crate::order::{BLOBS, HELPER, ORDER, Order, VERSION};
use crate::placement::{NetworkChoice, obstacle};

/// No action, command or directory is larger, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;
/// No order is larger, in bytes.
const MAX_ORDER: u64 = 16 << 20;
/// A root has no more layers; overlayfs takes fewer.
const MAX_LAYERS: usize = 1000;

/// An order that may be run.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) order: Order,
    /// How long all of it may take.
    pub(super) timeout: Option<Duration>,
}

impl Node {
    /// Reads an action.
    pub(super) fn ordered(&self, asked: Asked) -> Result<Ordered, Status> {
        let action: Action = self.document(asked)?;
        let command: Command = self.document(Asked::of(action.command_digest.as_ref())?)?;
        if command.arguments != [format!("./{HELPER}")] {
            let text = "this node runs the steps of kiln's builds and nothing else";
            return Err(Status::invalid_argument(text));
        }
        #[expect(deprecated, reason = "old clients say it nowhere else")]
        let platform = action.platform.as_ref().or(command.platform.as_ref());
        check_platform(platform)?;
        let root: Directory = self.document(Asked::of(action.input_root_digest.as_ref())?)?;
        self.check_blobs(&root)?;
        let order = self.order(&root)?;
        check_order(&order).map_err(Status::invalid_argument)?;
        let timeout = action.timeout.as_ref().map(duration).transpose()?;
        Ok(Ordered { order, timeout })
    }

    fn document<T: Message + Default>(&self, asked: Asked) -> Result<T, Status> {
        let bytes = self.input(asked, MAX_DOCUMENT)?;
        T::decode(&bytes[..]).map_err(|error| {
            Status::invalid_argument(format!("{} can't be understood: {error}", asked.digest))
        })
    }

    /// A blob that an action needs: whoever sent the action may send it again.
    fn input(&self, asked: Asked, max: u64) -> Result<Vec<u8>, Status> {
        let bytes = self.blobs.read(asked, max);
        bytes.map_err(|error| match error.code() {
            tonic::Code::NotFound => Status::failed_precondition(error.message().to_owned()),
            _ => error,
        })
    }

    /// Whether the blobs of an action are there. The program isn't executed, and needn't be.
    fn check_blobs(&self, root: &Directory) -> Result<(), Status> {
        let blobs = root.directories.iter().find(|one| one.name == BLOBS);
        let Some(blobs) = blobs else { return Ok(()) };
        let blobs: Directory = self.document(Asked::of(blobs.digest.as_ref())?)?;
        for file in &blobs.files {
            let asked = Asked::of(file.digest.as_ref())?;
            if !self.blobs.has(asked)? {
                let text = format!("the input {} is missing", asked.digest);
                return Err(Status::failed_precondition(text));
            }
        }
        Ok(())
    }

    fn order(&self, root: &Directory) -> Result<Order, Status> {
        let file = root.files.iter().find(|file| file.name == ORDER);
        let file = file.ok_or_else(|| Status::invalid_argument(format!("{ORDER} is missing")))?;
        let bytes = self.input(Asked::of(file.digest.as_ref())?, MAX_ORDER)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Status::invalid_argument(format!(
                "{ORDER} can't be understood: {error}; this node is another version of kiln"
            ))
        })
    }
}

/// Whether this machine is what an action asks for.
fn check_platform(platform: Option<&reapi::Platform>) -> Result<(), Status> {
    let host = Platform::host();
    let own = [(OS_FAMILY, "linux"), (ISA, isa(&host.architecture))];
    let properties = platform.iter().flat_map(|platform| &platform.properties);
    for property in properties {
        let asked = (property.name.as_str(), property.value.as_str());
        if !own.contains(&asked) {
            let own = own
                .map(|(name, value)| format!("{name}={value}"))
                .join(", ");
            let text = format!("{}={}: this node's properties are {own}", asked.0, asked.1);
            return Err(Status::failed_precondition(text));
        }
    }
    Ok(())
}

/// Why an order is not run, in words. Pure.
fn check_order(order: &Order) -> Result<(), String> {
    if order.version != VERSION {
        let asked = order.version;
        return Err(format!(
            "the order has version {asked}, and this node's kiln knows {VERSION}"
        ));
    }
    if order.steps.is_empty() || order.steps.len() > MAX_STEPS {
        return Err(format!("an order has from 1 to {MAX_STEPS} steps"));
    }
    let is_plain =
        |tree: &kiln_share::RemoteTree| matches!(tree.manifest, RemoteManifest::Blob { .. });
    if !order.trees.iter().all(is_plain) {
        return Err("a tree has no manifest of its own".to_owned());
    }
    let mut named = BTreeSet::new();
    if !order.trees.iter().all(|tree| named.insert(tree.tree)) {
        return Err("a tree is ordered twice".to_owned());
    }
    for ordered in &order.steps {
        let step = &ordered.step;
        let reason = match &step.op {
            Op::Exec(exec) => obstacle(step, exec, true, NetworkChoice::Worker),
            Op::Files(_) => None,
            _ => Some("a step is neither a command nor a file operation".to_owned()),
        };
        if let Some(reason) = reason {
            return Err(format!("this node doesn't run it: {reason}"));
        }
        if ordered
            .inputs
            .iter()
            .any(|input| input.layers().len() > MAX_LAYERS)
        {
            return Err(format!("a root has more than {MAX_LAYERS} layers"));
        }
    }
    Ok(())
}

fn duration(time: &bazel_remote_apis::google::protobuf::Duration) -> Result<Duration, Status> {
    let bad = |_| Status::invalid_argument("a timeout is negative");
    let seconds = u64::try_from(time.seconds).map_err(bad)?;
    let nanos = u32::try_from(time.nanos).map_err(bad)?;
    Ok(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{OrderedIds, OrderedInput, OrderedNetwork, OrderedStep};
    use kiln_graph::{ContextSource, Exec, Input, Mount, MountKind, Network, Security, Step};

    fn order(op: Op) -> Order {
        let step = Step::plain("s", op, Platform::host());
        Order {
            version: VERSION,
            ids: OrderedIds::Same,
            network: OrderedNetwork::Worker,
            trees: Vec::new(),
            steps: vec![OrderedStep {
                step,
                inputs: vec![OrderedInput::Layers(Vec::new())],
                keep_output: false,
            }],
        }
    }

    fn command(change: impl Fn(&mut Exec)) -> Order {
        let mut exec = Exec::new(Input(0), vec!["true".to_owned()]);
        change(&mut exec);
        order(Op::Exec(Box::new(exec)))
    }

    #[test]
    fn orders_ask_for_nothing_that_is_this_machines() {
        assert_eq!(check_order(&command(|_| {})), Ok(()));
        let refused = |order: &Order| check_order(order).unwrap_err();
        let mounted = |kind: MountKind| {
            command(move |exec| {
                exec.mounts = vec![Mount {
                    target: "/m".into(),
                    kind: kind.clone(),
                }];
            })
        };
        let ssh = MountKind::Ssh(kiln_graph::SshMount {
            id: "default".to_owned(),
            required: false,
            mode: 0o600,
            uid: kiln_graph::UnixId::ROOT,
            gid: kiln_graph::UnixId::ROOT,
        });
        assert!(refused(&mounted(ssh)).contains("SSH agent"));
        let host = command(|exec| exec.network = Network::Host);
        assert!(refused(&host).contains("network"));
        let insecure = command(|exec| exec.security = Security::Insecure);
        assert!(refused(&insecure).contains("unconfined"));
        let context = order(Op::Context(ContextSource {
            name: "context".to_owned(),
            ignore: Vec::new(),
        }));
        assert!(refused(&context).contains("neither"));
        let none = Order {
            steps: Vec::new(),
            ..command(|_| {})
        };
        assert!(refused(&none).contains("steps"));
        let newer = Order {
            version: VERSION + 1,
            ..command(|_| {})
        };
        assert!(refused(&newer).contains("version"));
        let mut deep = command(|_| {});
        let layers =
            vec![
                crate::order::OrderedLayer::Tree(kiln_graph::TreeId(kiln_graph::Digest::of(b"")));
                MAX_LAYERS + 1
            ];
        deep.steps[0].inputs = vec![OrderedInput::Layers(layers)];
        assert!(refused(&deep).contains("layers"));
    }

    #[test]
    fn other_machines_are_told_what_this_one_is() {
        let asked = |name: &str, value: &str| reapi::Platform {
            properties: vec![reapi::platform::Property {
                name: name.to_owned(),
                value: value.to_owned(),
            }],
        };
        assert!(check_platform(Some(&asked(OS_FAMILY, "linux"))).is_ok());
        let refused = check_platform(Some(&asked("pool", "large"))).unwrap_err();
        assert!(
            refused.message().contains("OSFamily=linux, ISA="),
            "{refused}"
        );
        assert!(check_platform(Some(&asked(ISA, "z80"))).is_err());
    }
}
