//! The whole node: money, links to friends, sessions of apps and the index client, composed into one machine.
//!
//! | part | hears | tells |
//! |---|---|---|
//! | [`Links`] | its relay connections; whom to keep a link to, what to say | links up and down, friends' messages, relays |
//! | [`Apps`] | apps' connections; replies, events, the report | permitted commands |
//! | [`IndexClient`] | its server connections; entries, questions | routes, which server is in use |
//! | [`Funder`] | all that the others tell | records to persist, and all that the others hear |
//!
//! Invariants:
//! 1. The funder sees all inputs of a turn before it makes a round: it is asked for outputs only when the node's own queue
//!    is empty, in [`Machine::poll_output`].
//! 2. A friend's batch or reset enters the funder only as [`Verified`](offset_protocol::identity::Verified); what is not
//!    signed by that friend enters as [`CheckedMessage::Forged`](crate::funder::CheckedMessage::Forged), what is no message as `Unreadable`. Signatures
//!    are checked [aside](checks).
//! 3. Records of the node itself (their keys begin with `x`) travel through the funder, so that there is one stream of
//!    revisions. One exists: the versions of reports that are reserved for the index client.
//!
//! Numbers of connections are divided into lanes, so that an event finds its part without a table; incoming connections are
//! apps'.

pub mod checks;
mod index;
mod io;
#[cfg(feature = "meddle")]
mod meddled;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use offset_index_sm::client::failed::FailedEdge;
use offset_index_sm::client::{ClientInput, ClientOutput, IndexClient};
use offset_protocol::bytes::PublicKey;
use offset_protocol::friend::FriendMessage;
use offset_protocol::identity::{SharedSigner, Verifier};
use offset_protocol::index::EntryKey;
use offset_protocol::machine::{Alarm, Instant, Machine};
use offset_protocol::net::{ConnIds, NetEvent};
use offset_protocol::sometimes;

use crate::apps::{self, Apps};
use crate::funder::{Funder, FunderConfig, FunderInput, FunderOutput, RestoreError};
use crate::inspection::Inspection;
use crate::links::{self, Links};
use checks::{Checked, Checks, Opened, Turn};
use index::Reservations;
pub use io::{NodeConfig, NodeInput, NodeOutput, Notice};

/// Lanes of connection numbers.
const LANES: u64 = 2;
const LINKS_LANE: u64 = 0;
const INDEX_LANE: u64 = 1;

/// A node. See the module.
pub struct Node {
    us: PublicKey,
    signer: SharedSigner,
    now: Instant,
    funder: Funder,
    links: Links,
    apps: Apps,
    index: IndexClient,
    index_in_use: Option<PublicKey>,
    reservations: Reservations,
    checks: Checks,
    checks_here: bool,
    outputs: VecDeque<NodeOutput>,
    #[cfg(feature = "meddle")]
    meddler: Option<Box<dyn crate::meddle::Meddler>>,
}

/// When the funder hears a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Now,
    /// When it is checked.
    Later,
}

impl Machine for Node {
    type Input = NodeInput;
    type Output = NodeOutput;

    fn handle(&mut self, now: Instant, input: NodeInput) {
        self.now = self.now.max(now);
        match input {
            NodeInput::Net(event) => self.on_net(event),
            NodeInput::Durable(revision) => self.funder(FunderInput::Durable(revision)),
            NodeInput::Checked(checked) => self.on_checked(checked),
            NodeInput::Trust { app, permissions } => self.apps(apps::Input::Trust { app, permissions }),
            NodeInput::Distrust { app } => self.apps(apps::Input::Distrust { app }),
            NodeInput::Wall(wall) => self.funder(FunderInput::Wall(wall)),
            NodeInput::NetworkReturned => self.links(links::Input::NetworkReturned),
            NodeInput::Tick => {
                self.funder(FunderInput::Tick);
                self.apps(apps::Input::Tick);
                self.links(links::Input::Tick);
                self.index(ClientInput::Tick);
                #[cfg(feature = "meddle")]
                self.tick_meddler();
            }
        }
        // What the input asks of the funder, it hears now; what it has to say to apps waits for the turn's end.
        self.drain_apps();
    }

    fn poll_output(&mut self) -> Option<NodeOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.funder.poll_output() {
                self.on_funder(output);
            } else if !self.drain_apps() {
                self.checks.end_turn();
                return None;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let own = Alarm::earliest(self.funder.poll_timeout(), self.links.poll_timeout());
        let others = Alarm::earliest(self.apps.poll_timeout(), self.index.poll_timeout());
        #[cfg(feature = "meddle")]
        let own = Alarm::earliest(own, self.meddler.as_ref().and_then(|meddler| meddler.poll_timeout()));
        Alarm::earliest(own, others)
    }
}

impl Node {
    /// The node that wrote these records (keys with values, in any order); a new one if there are none.
    ///
    /// # Errors
    /// [`RestoreError`] if a record cannot be read or does not fit the others.
    pub fn restore(config: NodeConfig, records: Vec<(Vec<u8>, Vec<u8>)>, now: Instant) -> Result<Self, RestoreError> {
        let NodeConfig { signer, seed } = config;
        let reservations = Reservations::restore(&records)?;
        let funder = FunderConfig { signer: signer.clone(), seed: seed.fork("funder") };
        let ids = |lane| ConnIds::lane(lane, LANES);
        let links = links::Config { signer: signer.clone(), seed: seed.fork("links"), ids: ids(LINKS_LANE) };
        let index_seed = seed.fork("index");
        let (us, below) = (signer.public_key(), reservations.below());
        let mut node = Node {
            us,
            signer: signer.clone(),
            now,
            funder: Funder::restore(funder, records)?,
            links: Links::new(links),
            apps: Apps::new(),
            index: IndexClient::new(now, signer, &index_seed, ids(INDEX_LANE), below),
            index_in_use: None,
            reservations,
            checks: Checks::default(),
            checks_here: false,
            outputs: VecDeque::new(),
            #[cfg(feature = "meddle")]
            meddler: None,
        };
        node.drain_index();
        Ok(node)
    }

    /// Looks at every signature, hash and sum in the records of the node `us`. Its private key is not needed.
    ///
    /// # Errors
    /// [`RestoreError`] if a node could not even begin with them.
    pub fn inspect(
        us: PublicKey,
        verifier: Arc<dyn Verifier>,
        records: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Inspection, RestoreError> {
        Reservations::restore(&records)?;
        Funder::inspect_records(us, verifier, records)
    }

    /// The money, for those who look on.
    pub fn money(&self) -> &Funder {
        &self.funder
    }

    /// Checks signatures at once from now on, and asks nobody to ([`NodeOutput::Check`]): for a machine without cores to spare.
    pub fn check_here(&mut self) {
        self.checks_here = true;
    }

    /// The sessions of apps, for those who look on.
    pub fn sessions_of_apps(&self) -> &Apps {
        &self.apps
    }

    /// For simulations and tests: panics if an invariant of links or of sessions of apps does not hold, or if the
    /// money takes a friend for connected that is not.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        self.links.assert_consistent();
        self.apps.assert_consistent();
        let lost = self.funder.friends_online().find(|friend| !self.links.is_up(friend));
        assert!(lost.is_none(), "a link ended, and the money did not hear of it: {lost:?}");
        assert!(
            self.checks.friends().all(|friend| self.links.is_up(friend)),
            "nothing is checked of a link that ended"
        );
    }

    /// Its identity, as it was born with; for those who check for it.
    pub fn signer(&self) -> SharedSigner {
        self.signer.clone()
    }

    /// This node.
    pub fn public_key(&self) -> PublicKey {
        self.us
    }

    fn on_net(&mut self, event: NetEvent) {
        let conn = event.conn();
        if conn.is_incoming() {
            self.apps(apps::Input::Net(event));
        } else if conn.lane(LANES) == LINKS_LANE {
            self.links(links::Input::Net(event));
        } else {
            self.index(ClientInput::Net(event));
        }
    }

    // -- what the funder says

    fn on_funder(&mut self, output: FunderOutput) {
        match output {
            FunderOutput::Persist { revision, changes } => {
                self.outputs.push_back(NodeOutput::Persist { revision, changes });
            }
            FunderOutput::Friend { friend, message } => self.say(friend, message),
            FunderOutput::DropLink { friend } => self.links(links::Input::DropLink { friend }),
            FunderOutput::KeepLink { friend, relays } => self.links(links::Input::KeepLink { friend, relays }),
            FunderOutput::StopLink { friend } => self.links(links::Input::StopLink { friend }),
            FunderOutput::Listen { relay } => self.links(links::Input::Listen(relay)),
            FunderOutput::StopListening { relay } => self.links(links::Input::StopListening { relay }),
            FunderOutput::Reply { app, id, outcome } => self.apps(apps::Input::Reply { app, id, outcome }),
            FunderOutput::Event { app, id, number, event } => self.apps(apps::Input::Event { app, id, number, event }),
            FunderOutput::Report(change) => self.apps(apps::Input::Report(change)),
            FunderOutput::Snapshot { session, report, events } => {
                self.apps(apps::Input::Snapshot { session, report, events });
            }
            FunderOutput::SideRecordDurable { key } => {
                if let Some(below) = self.reservations.durable(&key) {
                    self.index(ClientInput::Reserved { below });
                }
            }
            FunderOutput::FindRoutes { query, request } => {
                self.index(ClientInput::Request { local: query.0, query: index::query(request) });
            }
            FunderOutput::EdgeFailed { edge, currency, reason } => {
                self.index(ClientInput::EdgeFailed(FailedEdge { edge, currency, reason }));
            }
            FunderOutput::SetEntry(entry) => self.index(ClientInput::SetEntry(entry)),
            FunderOutput::RemoveEntry { friend, currency } => {
                self.index(ClientInput::RemoveEntry(EntryKey { friend, currency }));
            }
            FunderOutput::UseIndex { server } => {
                self.index(ClientInput::AddServer { server: server.public_key, address: server.address });
            }
            FunderOutput::Disagrees(disagreement) => {
                self.outputs.push_back(NodeOutput::Notice(Notice::Disagrees(disagreement)));
            }
            FunderOutput::StopIndex { server } => self.index(ClientInput::RemoveServer { server }),
        }
    }

    // -- what the others say

    fn on_links(&mut self, output: links::Output) {
        match output {
            links::Output::Net(command) => self.outputs.push_back(NodeOutput::Net(command)),
            links::Output::Up { friend } => {
                self.funder(FunderInput::LinkUp { friend });
                #[cfg(feature = "meddle")]
                self.tell_meddler(friend, crate::meddle::LinkNews::Up);
            }
            links::Output::Down { friend } => {
                self.checks.forget(&friend);
                self.funder(FunderInput::LinkDown { friend });
                #[cfg(feature = "meddle")]
                self.tell_meddler(friend, crate::meddle::LinkNews::Down);
            }
            links::Output::Message { friend, bytes } => {
                #[cfg(feature = "meddle")]
                if self.is_kept_back(friend, &bytes) {
                    return;
                }
                match self.checks.turn_of(&friend, bytes) {
                    Turn::Now(bytes) => drop(self.hear(friend, &bytes)),
                    Turn::Later => self.make_room(),
                    // Whoever called goes on with what the links say: their depth is not for a friend to choose.
                    Turn::TooMany => self.links.handle(self.now, links::Input::DropLink { friend }),
                }
            }
            links::Output::RelayRefuses { relay, reason } => {
                self.outputs.push_back(NodeOutput::Notice(Notice::RelayRefuses { relay, reason }));
            }
            links::Output::RelayStatus { relay, connected } => {
                self.funder(FunderInput::RelayStatus { relay, connected });
            }
        }
    }

    /// Ends links as long as more waits behind checks than may. What the links say of it is heard by whoever hears already.
    fn make_room(&mut self) {
        while let Some(friend) = self.checks.fullest() {
            self.checks.forget(&friend);
            self.links.handle(self.now, links::Input::EndLink { friend });
        }
    }

    fn say(&mut self, friend: PublicKey, message: FriendMessage) {
        #[cfg(feature = "meddle")]
        let Some(message) = self.meddle(friend, message) else { return };
        self.links(links::Input::Send { friend, message });
    }

    /// Opens a friend's message whose turn it is; whether it has to be checked first.
    fn hear(&mut self, friend: PublicKey, bytes: &[u8]) -> Heard {
        match checks::open(bytes) {
            Opened::Plain(message) => {
                self.funder(FunderInput::Friend { friend, message });
                Heard::Now
            }
            Opened::Signed(what) if self.checks_here => {
                let message = what.check(friend, &self.us, &*self.signer);
                self.funder(FunderInput::Friend { friend, message });
                Heard::Now
            }
            Opened::Signed(what) => {
                let answers = what.batch().map_or_else(Vec::new, |batch| self.funder.signed_answers(&friend, batch));
                let check = self.checks.begin(self.us, friend, what, answers);
                self.outputs.push_back(NodeOutput::Check(check));
                Heard::Later
            }
        }
    }

    fn on_checked(&mut self, checked: Checked) {
        let Some((friend, message)) = self.checks.end(checked) else {
            return sometimes!("node: a check comes back after its link ended", true);
        };
        self.funder(FunderInput::Friend { friend, message });
        while let Some(bytes) = self.checks.next(&friend) {
            if self.hear(friend, &bytes) == Heard::Later {
                return;
            }
        }
    }

    fn on_apps(&mut self, output: apps::Output) {
        match output {
            apps::Output::Net(command) => self.outputs.push_back(NodeOutput::Net(command)),
            apps::Output::Command { app, id, command } => self.funder(FunderInput::Command { app, id, command }),
            apps::Output::Acknowledge { app, id, number } => {
                self.funder(FunderInput::Acknowledge { app, id, number });
            }
            apps::Output::Snapshot { session, app } => self.funder(FunderInput::Snapshot { session, app }),
        }
    }

    fn on_index(&mut self, output: ClientOutput) {
        match output {
            ClientOutput::Net(command) => self.outputs.push_back(NodeOutput::Net(command)),
            ClientOutput::ReserveVersions { below } => {
                let change = self.reservations.reserve(below);
                self.funder(FunderInput::SideRecord(change));
            }
            ClientOutput::Routes { local, result } => self.funder(index::answer(local, result)),
            ClientOutput::Using { server } => self.on_index_in_use(server),
            // The funder's own limits keep it from asking for either; what is not published is not found, no more.
            ClientOutput::EntryRefused { .. } | ClientOutput::ServerRefused { .. } => {}
        }
    }

    fn on_index_in_use(&mut self, server: Option<PublicKey>) {
        let before = std::mem::replace(&mut self.index_in_use, server);
        if before == server {
            return;
        }
        for (server, connected) in
            before.map(|server| (server, false)).into_iter().chain(server.map(|server| (server, true)))
        {
            self.funder(FunderInput::IndexStatus { server, connected });
        }
    }

    // -- the parts: fed, and but for the funder and apps drained at once

    fn funder(&mut self, input: FunderInput) {
        self.funder.handle(self.now, input);
    }

    fn apps(&mut self, input: apps::Input) {
        self.apps.handle(self.now, input);
    }

    fn links(&mut self, input: links::Input) {
        self.links.handle(self.now, input);
        self.drain_links();
    }

    fn drain_links(&mut self) {
        while let Some(output) = self.links.poll_output() {
            self.on_links(output);
        }
    }

    fn index(&mut self, input: ClientInput) {
        self.index.handle(self.now, input);
        self.drain_index();
    }

    fn drain_index(&mut self) {
        while let Some(output) = self.index.poll_output() {
            self.on_index(output);
        }
    }

    /// Says whether there was anything.
    fn drain_apps(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.apps.poll_output() {
            any = true;
            self.on_apps(output);
        }
        any
    }
}
