//! A guest: an app that a node's owner registered with fewer rights than the own one, and that tries the others too (I16).
//!
//! | a guest | expects |
//! |---|---|
//! | connects | a greeting with the rights that it was given |
//! | sends a command that it may not | to hear so, and of which right |
//! | sends one that it may | any answer but that |
//! | sends what is no message: bytes behind it, a list that is too long | no answer to it, but the end of the session |
//!
//! Each command has one reply on the session that it was sent on. What a guest may and does harms nobody, so that its node
//! stays as honest as it was: its commands name invoices, payments and friends that do not exist. After `TRIES` it is quiet.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use offset_protocol::app::{AppMessage, Command, Name, NodeMessage, Outcome, Permissions, Refusal};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::limits::{MAX_FRAME, MAX_RELAYS};
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Rng, Seed};
use offset_protocol::money::Currency;
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};
use offset_protocol::relay::RelayAddress;
use offset_protocol::wire_enum;

use crate::host::{Boot, Effect, HostInput, Hosted, Process, Program, Resident};

/// Time between two tries, and before a lost session is dialled again.
const PAUSE: Duration = Duration::from_millis(900);
/// So often a guest tries something in all.
const TRIES: u32 = 24;

wire_enum! {
    /// A command with a list that is longer than such a list may be.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum LongCommand {
        5 = AddFriend {
            public_key: PublicKey,
            relays: List<RelayAddress, 64>,
            name: Name,
        },
    }
}

wire_enum! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum LongMessage {
        1 = Command {
            id: CommandId,
            command: LongCommand,
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Off { redial_at: Instant },
    Dialling(ConnId),
    Greeted(ConnId),
}

/// What a guest waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// A reply, to this.
    Reply(Command),
    /// No reply: it was no message.
    Nothing(&'static str),
}

/// A guest. See the module.
pub struct Guest {
    node: PublicKey,
    address: Address,
    may: Permissions,
    currency: Option<Currency>,
    rng: Rng,
    conns: ConnIds,
    session: Session,
    due: BTreeMap<CommandId, Due>,
    next_at: Instant,
    tried: u32,
    complaints: Vec<String>,
    outputs: VecDeque<NetCommand>,
}

impl Guest {
    /// A guest of `node` at `address`, which gave it these rights.
    pub fn new(node: PublicKey, address: Address, may: Permissions, currency: Option<Currency>, seed: &Seed) -> Self {
        Guest {
            node,
            address,
            may,
            currency,
            rng: seed.rng(),
            conns: ConnIds::lane(0, 1),
            session: Session::Off { redial_at: Instant::ZERO },
            due: BTreeMap::new(),
            next_at: Instant::ZERO,
            tried: 0,
            complaints: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What it noticed that must not be.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// What it waits for when it has tried everything, if anything.
    pub fn unanswered(&self) -> Option<String> {
        let is_connected = matches!(self.session, Session::Greeted(_));
        match self.due.values().next() {
            _ if !is_connected => Some("a guest has no session".to_owned()),
            Some(due) if self.tried == TRIES => Some(format!("a guest waits: {due:?}")),
            Some(_) | None => None,
        }
    }

    fn on_start(&mut self, now: Instant) {
        self.on_lost(now);
        self.next_at = now;
        self.conns = ConnIds::lane(0, 1);
    }

    fn on_lost(&mut self, now: Instant) {
        self.session = Session::Off { redial_at: now + PAUSE };
        self.due.clear();
    }

    fn on_net(&mut self, now: Instant, event: NetEvent) {
        let conn = event.conn();
        let ours = matches!(self.session, Session::Dialling(ours) | Session::Greeted(ours) if ours == conn);
        match event {
            NetEvent::Incoming { .. } => self.outputs.push_back(NetCommand::Close { conn }),
            NetEvent::Closed { .. } if ours => self.on_lost(now),
            NetEvent::Message { bytes, .. } if ours => match decode(&bytes, MAX_FRAME) {
                Ok(message) => self.on_message(now, conn, message),
                Err(error) => self.complaints.push(format!("the node sent what is no message: {error}")),
            },
            NetEvent::Opened { .. } | NetEvent::Closed { .. } | NetEvent::Message { .. } => {}
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, message: NodeMessage) {
        match message {
            NodeMessage::Hello { permissions, .. } => {
                self.session = Session::Greeted(conn);
                self.next_at = now + PAUSE;
                if permissions != self.may {
                    self.complaints.push(format!("greeted with {permissions:?}, given {:?}", self.may));
                }
            }
            NodeMessage::Reply { id, outcome } => self.on_reply(id, &outcome),
            NodeMessage::Report { .. } => {}
            NodeMessage::Event { event, .. } => self.complaints.push(format!("an event of nobody's: {event:?}")),
        }
    }

    fn on_reply(&mut self, id: CommandId, outcome: &Outcome) {
        let wrong = match self.due.remove(&id) {
            None => Some(format!("a reply, and none is due: {outcome:?}")),
            Some(Due::Nothing(what)) => Some(format!("a reply to {what}: {outcome:?}")),
            Some(Due::Reply(command)) => {
                let denied = command.permission().filter(|right| !self.may.allow(*right));
                let told = match outcome {
                    Outcome::Refused(Refusal::NotPermitted(right)) => Some(*right),
                    Outcome::Refused(_) | Outcome::Done(_) => None,
                };
                (denied != told).then(|| format!("{command:?} came to {outcome:?} for {:?}", self.may))
            }
        };
        self.complaints.extend(wrong);
    }

    fn proceed(&mut self, now: Instant) {
        match self.session {
            Session::Off { redial_at } if redial_at <= now => {
                let conn = self.conns.allocate();
                self.session = Session::Dialling(conn);
                let (address, peer) = (self.address.clone(), self.node);
                self.outputs.push_back(NetCommand::Connect { conn, purpose: Purpose::AppNode, address, peer });
            }
            Session::Greeted(conn) if self.next_at <= now && self.tried < TRIES => {
                self.next_at = now + PAUSE;
                self.tried += 1;
                let bytes = self.next_try();
                self.outputs.push_back(NetCommand::Send { conn, bytes });
            }
            Session::Off { .. } | Session::Dialling(_) | Session::Greeted(_) => {}
        }
    }

    /// One thing after the other.
    fn next_try(&mut self) -> Vec<u8> {
        let id = CommandId(self.rng.bytes());
        let nobody = Name::new("nobody").unwrap_or_default();
        let command = match (self.tried % 8, self.currency) {
            (0, _) => return self.long_list(id, nobody),
            (1, _) => return self.with_bytes_behind(id),
            (2, Some(currency)) => Command::FindRoutes {
                currency,
                amount: 1,
                source: None,
                destination: PublicKey(self.rng.bytes()),
                exclude: List::new(),
                max_fee: None,
            },
            (3, _) => Command::WithdrawPayment { payment_id: PaymentId(self.rng.bytes()) },
            (4, _) => Command::CancelInvoice { invoice_id: InvoiceId(self.rng.bytes()) },
            (5, _) => Command::RemoveFriend { name: nobody },
            (6, Some(currency)) => Command::SetMaxDebt { name: nobody, currency, max_debt: 1 },
            _ => Command::LastEvidence { name: nobody },
        };
        self.due.insert(id, Due::Reply(command.clone()));
        encode(&AppMessage::Command { id, command })
    }

    fn with_bytes_behind(&mut self, id: CommandId) -> Vec<u8> {
        self.due.insert(id, Due::Nothing("a message with bytes behind it"));
        let command = Command::LastEvidence { name: Name::new("nobody").unwrap_or_default() };
        let mut bytes = encode(&AppMessage::Command { id, command });
        bytes.push(0);
        bytes
    }

    fn long_list(&mut self, id: CommandId, name: Name) -> Vec<u8> {
        self.due.insert(id, Due::Nothing("a list that is too long"));
        let address: Address = "h99999999:4001".parse().unwrap_or_default();
        let relay = RelayAddress { public_key: self.node, address };
        long_message(id, self.node, vec![relay; MAX_RELAYS + 1], name)
    }
}

fn long_message(id: CommandId, public_key: PublicKey, relays: Vec<RelayAddress>, name: Name) -> Vec<u8> {
    let command = LongCommand::AddFriend { public_key, relays: List::truncated(relays), name };
    encode(&LongMessage::Command { id, command })
}

/// A guest, shared by the app that runs and the world that looks on.
#[derive(Clone)]
pub struct SharedGuest(pub Rc<RefCell<Guest>>);

impl Machine for SharedGuest {
    type Input = HostInput;
    type Output = NetCommand;

    fn handle(&mut self, now: Instant, input: HostInput) {
        let mut guest = self.0.borrow_mut();
        match input {
            HostInput::Net(event) => guest.on_net(now, event),
            HostInput::Tick
            | HostInput::Note(_)
            | HostInput::JoinEnded { .. }
            | HostInput::Durable(_)
            | HostInput::Wall(_)
            | HostInput::NetworkReturned
            | HostInput::Drain => {}
        }
        guest.proceed(now);
    }

    fn poll_output(&mut self) -> Option<NetCommand> {
        self.0.borrow_mut().outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let guest = self.0.borrow();
        let at = match guest.session {
            Session::Off { redial_at } => Some(redial_at),
            Session::Dialling(_) => None,
            Session::Greeted(_) => (guest.tried < TRIES).then_some(guest.next_at),
        };
        at.map(|at| Alarm { at, why: "guest" })
    }
}

impl Resident for SharedGuest {
    fn input(input: HostInput) -> Option<HostInput> {
        Some(input)
    }

    fn effect(output: NetCommand) -> Option<Effect> {
        Some(Effect::Net(output))
    }
}

/// A guest's app.
pub struct GuestApp(pub SharedGuest);

impl Program for GuestApp {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        Vec::new()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.0.0.borrow_mut().on_start(boot.now);
        Ok(Box::new(Hosted::new(self.0.clone(), vec![HostInput::Tick])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_differs_from_a_right_message_in_its_length_only() {
        let (id, key, name) = (CommandId([1; CommandId::SIZE]), PublicKey([2; 32]), Name::new("friend").unwrap());
        let relay = RelayAddress { public_key: key, address: "h1:4001".parse().unwrap() };
        let relays = vec![relay.clone(); MAX_RELAYS];
        let command =
            Command::AddFriend { public_key: key, relays: List::truncated(relays.clone()), name: name.clone() };
        assert_eq!(long_message(id, key, relays, name.clone()), encode(&AppMessage::Command { id, command }));
        let too_long = long_message(id, key, vec![relay; MAX_RELAYS + 1], name);
        assert!(decode::<AppMessage>(&too_long, MAX_FRAME).is_err());
    }
}
