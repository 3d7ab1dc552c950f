//! A card as hosts run it: a node. The same machine as in the real program.

use offset_funder_sm::node::checks::Answers;
use offset_funder_sm::node::{Node, NodeConfig, NodeInput, NodeOutput};
use offset_protocol::app::Permissions;
use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::Duration;
use offset_protocol::net::Purpose;

use crate::host::{Boot, Effect, HostInput, Hosted, Job, Process, Program, Resident, SlowJobs};

/// Where nodes wait for apps.
pub const NODE_PORT: u16 = 4_004;

/// A node: one card.
#[derive(Clone, Debug)]
pub struct Card {
    /// The apps that may connect, and what they may do.
    pub apps: Vec<(PublicKey, Permissions)>,
}

impl Program for Card {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(NODE_PORT, Purpose::AppNode)]
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        let records = boot.records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let config = NodeConfig { signer: boot.signer, seed: boot.seed };
        let node = Node::restore(config, records, boot.now).map_err(|error| error.to_string())?;
        let trust = |&(app, permissions): &(PublicKey, Permissions)| NodeInput::Trust { app, permissions };
        Ok(Box::new(Hosted::new(node, self.apps.iter().map(trust).collect())))
    }
}

impl Resident for Node {
    fn input(input: HostInput) -> Option<NodeInput> {
        match input {
            HostInput::Net(event) => Some(NodeInput::Net(event)),
            HostInput::Durable(revision) => Some(NodeInput::Durable(revision)),
            HostInput::Wall(wall) => Some(NodeInput::Wall(wall)),
            HostInput::NetworkReturned => Some(NodeInput::NetworkReturned),
            HostInput::Tick => Some(NodeInput::Tick),
            HostInput::JoinEnded { .. } | HostInput::Drain | HostInput::Note(_) => None,
        }
    }

    /// A check takes no more than a machine under load makes it.
    const SLOW_JOBS: SlowJobs = SlowJobs { per_mille: 10, longest: Duration::from_millis(300) };

    fn aside(&self, output: NodeOutput) -> Result<Job<NodeInput>, NodeOutput> {
        match output {
            NodeOutput::Check(check) => {
                let verifier = self.signer();
                // Nothing here remembers, so the funder does the rest itself.
                Ok(Box::new(move || NodeInput::Checked(check.run(&*verifier, Answers::Left))))
            }
            other => Err(other),
        }
    }

    fn effect(output: NodeOutput) -> Option<Effect> {
        Some(match output {
            NodeOutput::Net(command) => Effect::Net(command),
            NodeOutput::Persist { revision, changes } => Effect::Persist { revision, changes },
            // Checks are made aside.
            NodeOutput::Check(_) | NodeOutput::Notice(_) => return None,
        })
    }

    #[cfg(feature = "probes")]
    fn assert_consistent(&self) {
        Node::assert_consistent(self);
    }
}
