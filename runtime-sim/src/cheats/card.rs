//! A cheater's card: the machine of every node, with somebody between its money and its links, and a filter around what it
//! tells index servers.

use std::any::Any;

use offset_funder_sm::node::{Node, NodeConfig, NodeInput};
use offset_protocol::app::Permissions;
use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::{Alarm, Instant};
use offset_protocol::net::Purpose;

use super::ReportTrick;
use super::friend::SharedCheater;
use super::hand::SharedHand;
use super::report::Reports;
use crate::card::NODE_PORT;
use crate::dice::Dice;
use crate::host::{Boot, Effect, HostInput, Hosted, LawBroken, Process, Program};

/// A card that cheats its friends.
pub(crate) struct CheatingCard {
    /// The apps that may connect, and what they may do.
    pub(super) apps: Vec<(PublicKey, Permissions)>,
    /// Who meddles.
    pub(super) cheater: SharedCheater,
    /// Who reports.
    pub(super) reports: SharedHand<ReportTrick>,
}

impl Program for CheatingCard {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(NODE_PORT, Purpose::AppNode)]
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        let records = boot.records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let reports = Reports::new(self.reports.clone(), boot.signer.clone());
        let config = NodeConfig { signer: boot.signer, seed: boot.seed };
        let mut node = Node::restore(config, records, boot.now).map_err(|error| error.to_string())?;
        self.cheater.start();
        self.reports.borrow_mut().start();
        node.set_meddler(Box::new(self.cheater.clone()));
        let trust = |&(app, permissions): &(PublicKey, Permissions)| NodeInput::Trust { app, permissions };
        let node = Hosted::new(node, self.apps.iter().map(trust).collect());
        Ok(Box::new(Filter { node, reports }))
    }
}

struct Filter {
    node: Hosted<Node>,
    reports: Reports,
}

impl Process for Filter {
    fn push(&mut self, input: HostInput) {
        self.node.push(input);
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        let mut wanted = Vec::new();
        self.node.turn(now, dice, &mut wanted)?;
        wanted.into_iter().for_each(|effect| self.reports.pass(now, effect, effects));
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        self.node.alarm()
    }

    fn machine(&self) -> &dyn Any {
        self.node.machine()
    }
}
