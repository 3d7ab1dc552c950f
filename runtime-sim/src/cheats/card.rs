//! A cheater's card: the machine of every node, with somebody between its money and its links.

use offset_funder_sm::node::{Node, NodeConfig, NodeInput};
use offset_protocol::app::Permissions;
use offset_protocol::bytes::PublicKey;
use offset_protocol::net::Purpose;

use super::friend::SharedCheater;
use crate::card::NODE_PORT;
use crate::host::{Boot, Hosted, Process, Program};

/// A card that cheats its friends.
pub struct CheatingCard {
    /// The apps that may connect, and what they may do.
    pub apps: Vec<(PublicKey, Permissions)>,
    /// Who meddles.
    pub cheater: SharedCheater,
}

impl Program for CheatingCard {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(NODE_PORT, Purpose::AppNode)]
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        let records = boot.records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let config = NodeConfig { signer: boot.signer, seed: boot.seed };
        let mut node = Node::restore(config, records, boot.now).map_err(|error| error.to_string())?;
        self.cheater.start();
        node.set_meddler(Box::new(self.cheater.clone()));
        let trust = |&(app, permissions): &(PublicKey, Permissions)| NodeInput::Trust { app, permissions };
        Ok(Box::new(Hosted::new(node, self.apps.iter().map(trust).collect())))
    }
}
