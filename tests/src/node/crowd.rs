//! Friends of a hub, connected with it through its relay: whole nodes in this process, each with an identity, links and books of
//! its own. All that they lack is a disk. They call the hub and do not listen themselves, so that it is they who connect.
//!
//! An app of each of them, whose connection is made of nothing, has them pay each other through the hub.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offset_funder_sm::node::{Node, NodeConfig, NodeInput, NodeOutput};
use offset_protocol::app::{
    AppMessage, Command, CommitMode, Event, FriendReport, Name, NodeMessage, Outcome, PaymentState, Permissions,
    ReportChange,
};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::files::FriendTicket;
use offset_protocol::identity::{SharedSigner, Signer};
use offset_protocol::index::{MultiRoute, RoutePart};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::money::Currency;
use offset_protocol::net::{Address, ConnId, NetCommand, NetEvent, Purpose};
use offset_protocol::payment::Invoice;
use offset_protocol::persist::Revision;
use offset_runtime_smol::driver::{Effect, Program};

use crate::hosts::{Door, Ground, Host};
use crate::memory::identity;

/// What friends let each other owe: so much that limits never matter.
pub(super) const LIMIT: u128 = 1 << 90;
const AMOUNT: u128 = 100;
/// Between the first calls of two friends: a node takes 512 calls of one relay in 5 s.
const APART: Duration = Duration::from_millis(15);
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const APP: PublicKey = PublicKey([0xaa; 32]);
const APP_CONN: ConnId = ConnId::incoming(0);

/// The friends.
pub(super) struct Crowd {
    currency: Currency,
    hub: PublicKey,
    friends: Vec<Friend>,
    hear: Receiver<(usize, Said)>,
    ids: Rng,
    // They end with the crowd.
    _running: Vec<smol::Task<()>>,
}

struct Friend {
    key: PublicKey,
    door: Door<NodeInput>,
    is_usable: bool,
}

/// What an app of a friend heard.
enum Said {
    /// Whether its line to the hub can be used.
    Usable(bool),
    /// A command was refused: here that is an error.
    Refused(String),
    /// A payment has ended, or an invoice; whether a payment was paid.
    Ended { id: CommandId, number: Option<u64>, paid: Option<bool> },
}

impl Crowd {
    /// Who they are: the hub has to know them as friends.
    pub(super) fn keys(friends: usize) -> impl Iterator<Item = PublicKey> {
        (1..=friends).map(|friend| identity(friend).public_key())
    }

    /// Starts so many friends, who call the hub.
    ///
    /// # Errors
    /// If a node cannot be made.
    pub(super) fn start(hub: &FriendTicket, friends: usize) -> Result<Crowd> {
        let (ground, currency) = (Ground::new()?, "USD".parse()?);
        let seed = Seed::from_number(u64::from(std::process::id())).fork(&hub.public_key.to_string());
        let (tell, hear) = channel();
        let (mut all, mut running) = (Vec::new(), Vec::new());
        for number in 0..friends {
            let signer: SharedSigner = std::sync::Arc::new(identity(number + 1));
            let (key, seed) = (signer.public_key(), seed.fork(&number.to_string()));
            let config = NodeConfig { signer: signer.clone(), seed: seed.fork("node") };
            let mut node = Node::restore(config, Vec::new(), ground.clock.now())?;
            node.check_here();
            let words = Words { number, tell: tell.clone() };
            let (host, door) = Host::new(&ground, signer, seed.fork("channels"), words, node);
            let friend = Friend { key, door, is_usable: false };
            running.push(ground.executor.spawn_owned(async move {
                smol::Timer::after(APART * u32::try_from(number).unwrap_or(u32::MAX)).await;
                host.run().await;
            }));
            friend.log_in()?;
            all.push(friend);
        }
        let ids = seed.fork("ids").rng();
        let mut crowd = Crowd { currency, hub: hub.public_key, friends: all, hear, ids, _running: running };
        for friend in 0..friends {
            crowd.befriend_hub(friend, hub)?;
        }
        Ok(crowd)
    }

    fn befriend_hub(&mut self, friend: usize, hub: &FriendTicket) -> Result<()> {
        let (name, currency): (Name, _) = ("hub".parse()?, self.currency);
        let (public_key, relays) = (hub.public_key, hub.relays.clone());
        self.command(friend, Command::AddFriend { public_key, relays, name: name.clone() });
        self.command(friend, Command::OpenCurrency { name: name.clone(), currency });
        self.command(friend, Command::SetMaxDebt { name, currency, max_debt: LIMIT });
        Ok(())
    }

    fn command(&mut self, friend: usize, command: Command) -> CommandId {
        let id = CommandId(self.ids.bytes());
        self.friends[friend].say(&AppMessage::Command { id, command });
        id
    }

    /// Waits until every friend's line to the hub can be used.
    ///
    /// # Errors
    /// If that takes too long.
    pub(super) fn wait_until_usable(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.friends.iter().all(|friend| friend.is_usable) {
            let usable = || self.friends.iter().filter(|friend| friend.is_usable).count();
            let left = until.saturating_duration_since(Instant::now());
            let said = self.hear.recv_timeout(left);
            let said = said.with_context(|| format!("{} of {} friends can pay", usable(), self.friends.len()))?;
            self.on_said(said)?;
        }
        Ok(())
    }

    /// Friends that cannot pay through the hub any more.
    ///
    /// # Errors
    /// If something was refused meanwhile.
    pub(super) fn lost(&mut self) -> Result<usize> {
        while let Ok(said) = self.hear.try_recv() {
            self.on_said(said)?;
        }
        Ok(self.friends.iter().filter(|friend| !friend.is_usable).count())
    }

    /// Makes payments through the hub between pairs of the first `active` friends, by turns both ways, `in_flight` at a time. How
    /// many seconds that took.
    ///
    /// # Errors
    /// If one fails.
    pub(super) fn pay(&mut self, active: usize, payments: usize, in_flight: usize) -> Result<f64> {
        let (began, mut begun, mut ended) = (Instant::now(), 0, 0);
        while ended < payments {
            while begun < payments && begun - ended < in_flight {
                self.begin_payment(active, begun)?;
                begun += 1;
            }
            let said = self.hear.recv_timeout(PATIENCE);
            ended += self.on_said(said.with_context(|| format!("{ended} of {payments} payments ended"))?)?;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn begin_payment(&mut self, active: usize, number: usize) -> Result<()> {
        // 0 to 1, 2 to 3, and so on; the other way when all had their turn.
        let (pair, is_back) = (number % (active / 2), (number / (active / 2)) % 2);
        let (buyer, seller) = (2 * pair + is_back, 2 * pair + 1 - is_back);
        let (invoice_id, payment_id) = (InvoiceId(self.ids.bytes()), PaymentId(self.ids.bytes()));
        let (currency, amount, description) = (self.currency, AMOUNT, Default::default());
        self.command(seller, Command::AddInvoice { invoice_id, currency, amount, description, expires_at: None });
        let keys = [self.friends[buyer].key, self.hub, self.friends[seller].key];
        let part = RoutePart { route: List::truncated(keys), amount, fees: 0 };
        let invoice =
            Invoice { invoice_id, currency, seller: self.friends[seller].key, amount, description: Default::default() };
        let routes = Some(MultiRoute { parts: List::truncated([part]) });
        self.command(buyer, Command::Pay { payment_id, invoice, max_fee: 0, mode: CommitMode::InBand, routes });
        Ok(())
    }

    /// Takes note of what an app heard. How many payments that ends.
    fn on_said(&mut self, (friend, said): (usize, Said)) -> Result<usize> {
        let friend = &mut self.friends[friend];
        match said {
            Said::Usable(is_usable) => friend.is_usable = is_usable,
            Said::Refused(why) => bail!("a friend refuses: {why}"),
            Said::Ended { paid: Some(false), .. } => bail!("a payment failed"),
            Said::Ended { id, number, paid } => {
                if let Some(number) = number {
                    friend.say(&AppMessage::Acknowledge { id, number });
                }
                return Ok(usize::from(paid.is_some()));
            }
        }
        Ok(0)
    }
}

impl Friend {
    fn log_in(&self) -> Result<()> {
        self.door.input(NodeInput::Trust { app: APP, permissions: Permissions::ALL });
        let (conn, purpose, from) = (APP_CONN, Purpose::AppNode, Address::new("here")?);
        self.door.input(NodeInput::Net(NetEvent::Incoming { conn, purpose, peer: APP, from }));
        Ok(())
    }

    fn say(&self, message: &AppMessage) {
        self.door.input(NodeInput::Net(NetEvent::Message { conn: APP_CONN, bytes: encode(message) }));
    }
}

/// A friend's node in the words of its host, and its app's ears.
struct Words {
    number: usize,
    tell: Sender<(usize, Said)>,
}

impl Program for Words {
    type Machine = Node;
    type Input = NodeInput;
    type Output = NodeOutput;

    fn net(&mut self, event: NetEvent) -> NodeInput {
        NodeInput::Net(event)
    }

    fn tick(&mut self) -> NodeInput {
        NodeInput::Tick
    }

    fn durable(&mut self, revision: Revision) -> Option<NodeInput> {
        Some(NodeInput::Durable(revision))
    }

    fn effect(&mut self, output: NodeOutput) -> Effect {
        match output {
            NodeOutput::Net(NetCommand::Send { conn: APP_CONN, bytes }) => self.on_app_message(&bytes),
            NodeOutput::Net(NetCommand::Admit { conn: APP_CONN }) => {}
            NodeOutput::Net(command) => return Effect::Net(command),
            NodeOutput::Persist { revision, changes } => return Effect::Persist { revision, changes },
            NodeOutput::Notice(notice) => self.tell(Said::Refused(format!("{notice:?}"))),
            // It checks by itself: see `Node::check_here`.
            NodeOutput::Check(_) => {}
        }
        Effect::Nothing
    }
}

impl Words {
    fn tell(&self, said: Said) {
        // The crowd is being dropped.
        let _ = self.tell.send((self.number, said));
    }

    fn on_app_message(&self, bytes: &[u8]) {
        match decode(bytes, MAX_FRAME) {
            Ok(NodeMessage::Report { changes, .. }) => {
                for change in changes {
                    if let ReportChange::Friend(hub) = change {
                        self.tell(Said::Usable(is_usable(&hub)));
                    }
                }
            }
            Ok(NodeMessage::Reply { outcome: Outcome::Refused(refusal), .. }) => {
                self.tell(Said::Refused(refusal.to_string()));
            }
            Ok(NodeMessage::Event { id, number, event: Event::PaymentEnded(payment) }) => {
                let paid = Some(matches!(payment.state, PaymentState::Paid { .. }));
                self.tell(Said::Ended { id, number, paid });
            }
            Ok(NodeMessage::Event { id, number, event: Event::InvoiceEnded(_) }) => {
                self.tell(Said::Ended { id, number, paid: None });
            }
            Ok(NodeMessage::Event { .. } | NodeMessage::Reply { .. } | NodeMessage::Hello { .. }) => {}
            Err(error) => self.tell(Said::Refused(error.to_string())),
        }
    }
}

fn is_usable(hub: &FriendReport) -> bool {
    let mut currencies = hub.currencies.iter();
    hub.online && currencies.any(|currency| currency.listed && currency.friend_listed && currency.max_debt == LIMIT)
}
