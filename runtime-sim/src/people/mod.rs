//! People: each holds one card, through an app that speaks the application protocol with the card's node.
//!
//! | a person | how |
//! |---|---|
//! | sets up the card | [`Chore`]s, one after the other |
//! | sells and buys | [`deals`]: notes between people past the network, commands to their nodes |
//! | comes back after every interruption | dials again; sends again, under the same id, what was not answered |
//! | notices | replies that nobody asked for, refusals that make no sense, receipts that prove nothing: [`Person::complaints`] |
//!
//! A person remembers across crashes of the app what was asked for and agreed; the session with the node is gone.

mod again;
mod book;
pub mod deals;
mod told;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use offset_protocol::app::{Answer, AppMessage, ChannelReport, Command, Event, NodeMessage, Outcome, Refusal};
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::codec::{decode, encode};
use offset_protocol::identity::SharedSigner;
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};

pub use again::AgainWish;
pub use book::ReportBook;
pub use deals::{DealId, Note, Order, Purchase, Sale, Stage};
use deals::{Deals, Wish};
use told::Told;

use crate::host::{Boot, Effect, HostId, HostInput, Hosted, Process, Program, Resident};

/// A lost session is tried again after this long.
const REDIAL: Duration = Duration::from_millis(700);
/// What was refused because the node was busy is tried again after this long.
const RETRY: Duration = Duration::from_secs(2);

/// One step of setting a card up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chore {
    /// What to do.
    pub command: Command,
    /// Which answers are right.
    pub wanted: Wanted,
}

/// Which answers to a chore are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Done, and nothing else.
    Done,
    /// Done, or the refusal that shows that an earlier try, whose answer was lost, did it.
    DoneOr(Refusal),
    /// Anything.
    Anything,
}

/// Why a command was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    Chore,
    Deal(DealId, Wish),
}

/// A command that has no answer yet.
#[derive(Clone, Debug)]
struct Errand {
    command: Command,
    why: Why,
    /// How often it was sent.
    sent: u32,
    /// Sent on the session that stands now.
    under_way: bool,
    /// Not before this.
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Off { redial_at: Instant },
    Dialling(ConnId),
    Greeted(ConnId),
}

/// What a person wants done.
#[derive(Clone, Debug)]
pub enum PersonOutput {
    /// With a connection.
    Net(NetCommand),
    /// Tell another person.
    Note {
        /// At which host.
        to: HostId,
        /// What.
        note: Note,
    },
}

/// A person. See the module.
pub struct Person {
    me: HostId,
    node: PublicKey,
    address: Address,
    verifier: SharedSigner,
    rng: Rng,
    conns: ConnIds,
    session: Session,
    chores: VecDeque<Chore>,
    /// To set the card up from nothing.
    from_nothing: Vec<Chore>,
    /// After this long the terms of a friend are accepted.
    reset_patience: Option<Duration>,
    /// Since when each friend's terms are known.
    terms_since: BTreeMap<PublicKey, Instant>,
    errands: BTreeMap<CommandId, Errand>,
    /// Replies that are due on the session that stands, by command.
    replies_due: BTreeMap<CommandId, u32>,
    told: Told,
    deals: Deals,
    book: ReportBook,
    complaints: Vec<String>,
    outputs: VecDeque<PersonOutput>,
}

impl Person {
    /// A person at host `me` whose card is `node` at `address`. The seed is for ids; the verifier checks receipts.
    pub fn new(me: HostId, node: PublicKey, address: Address, verifier: SharedSigner, seed: &Seed) -> Self {
        Person {
            me,
            node,
            address,
            verifier,
            rng: seed.rng(),
            conns: ConnIds::lane(0, 1),
            session: Session::Off { redial_at: Instant::ZERO },
            chores: VecDeque::new(),
            from_nothing: Vec::new(),
            reset_patience: None,
            terms_since: BTreeMap::new(),
            errands: BTreeMap::new(),
            replies_due: BTreeMap::new(),
            told: Told::default(),
            deals: Deals::default(),
            book: ReportBook::default(),
            complaints: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Sets the card up by these steps; again if the node forgets everything.
    pub fn set_up(&mut self, steps: Vec<Chore>) {
        self.from_nothing = steps.clone();
        self.chores.extend(steps);
    }

    /// After how long the person accepts a friend's terms; `None`: never.
    pub fn set_reset_patience(&mut self, patience: Option<Duration>) {
        self.reset_patience = patience;
    }

    /// Whether the card is set up as wanted.
    pub fn is_set_up(&self) -> bool {
        self.chores.is_empty()
    }

    /// Whether an app is connected and has been greeted.
    pub const fn is_connected(&self) -> bool {
        matches!(self.session, Session::Greeted(_))
    }

    /// What the node reports.
    pub const fn book(&self) -> &ReportBook {
        &self.book
    }

    /// The person's sales and purchases.
    pub const fn deals(&self) -> &Deals {
        &self.deals
    }

    /// From now on deals may end in any way without a complaint: some node forgot what it had said.
    pub fn doubt(&mut self) {
        self.deals.doubt();
    }

    /// The purchases that have ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<DealId> {
        self.deals.take_ended()
    }

    /// What was noticed that must not be.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Forgets what was noticed, where there was a reason for it.
    pub fn excuse(&mut self, is_excused: impl Fn(&str) -> bool) {
        self.complaints.retain(|complaint| !is_excused(complaint));
    }

    /// What the node said that it did and does not show, if anything. When nothing is under way.
    pub fn contradiction(&self) -> Option<String> {
        self.told.contradiction(&self.book)
    }

    /// Commands without an answer, for reports of what is stuck.
    pub fn unanswered(&self) -> impl Iterator<Item = &Command> {
        self.errands.values().map(|errand| &errand.command)
    }

    fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into());
    }

    // -- the session

    /// The app has just started: no session, and a clock that begins again.
    fn on_start(&mut self, now: Instant) {
        self.on_session_lost(now);
        for errand in self.errands.values_mut() {
            errand.not_before = now;
        }
        self.deals.on_new_clock(now);
        self.terms_since.clear();
        self.conns = ConnIds::lane(0, 1);
    }

    fn on_session_lost(&mut self, now: Instant) {
        self.session = Session::Off { redial_at: now + REDIAL };
        self.book.on_session_lost();
        self.replies_due.clear();
        for errand in self.errands.values_mut() {
            errand.under_way = false;
        }
    }

    fn on_net(&mut self, now: Instant, event: NetEvent) {
        let conn = event.conn();
        let ours = matches!(self.session, Session::Dialling(ours) | Session::Greeted(ours) if ours == conn);
        match event {
            NetEvent::Incoming { .. } => self.net(NetCommand::Close { conn }),
            NetEvent::Opened { .. } => {}
            NetEvent::Closed { .. } if ours => self.on_session_lost(now),
            NetEvent::Message { bytes, .. } if ours => match decode(&bytes, MAX_FRAME) {
                Ok(message) => self.on_message(now, conn, message),
                Err(error) => self.complain(format!("the node sent what is no message: {error}")),
            },
            NetEvent::Closed { .. } | NetEvent::Message { .. } => {}
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, message: NodeMessage) {
        match message {
            NodeMessage::Hello { .. } => self.session = Session::Greeted(conn),
            NodeMessage::Report { number, changes, complete } => {
                if let Err(what) = self.book.on_report(number, &changes, complete) {
                    self.complain(what);
                }
            }
            NodeMessage::Reply { id, outcome } => self.on_reply(now, id, outcome),
            NodeMessage::Event { id, number, event } => {
                if let Some(number) = number {
                    self.say(conn, &AppMessage::Acknowledge { id, number });
                }
                self.on_event(now, event);
            }
        }
    }

    fn on_reply(&mut self, now: Instant, id: CommandId, outcome: Outcome) {
        match self.replies_due.get_mut(&id) {
            Some(due) if *due > 0 => *due -= 1,
            Some(_) | None => self.complain(format!("a reply to {id:?}, and none is due: {outcome:?}")),
        }
        // What was asked for before the node forgot is nobody's any more.
        let Some(errand) = self.errands.remove(&id) else { return };
        if outcome == Outcome::Refused(Refusal::Busy) {
            let again = Errand { under_way: false, not_before: now + RETRY, ..errand };
            self.errands.insert(id, again);
            return;
        }
        match errand.why {
            Why::Chore => self.on_chore_done(errand.sent, outcome),
            Why::Deal(deal, wish) => {
                self.deals.on_outcome(now, (deal, wish), &errand.command, outcome, &mut self.rng);
                self.carry_out_deals(now);
            }
        }
    }

    fn on_chore_done(&mut self, sent: u32, outcome: Outcome) {
        let Some(chore) = self.chores.pop_front() else { return };
        match outcome {
            Outcome::Done(Answer::Done) => self.told.on_done(&chore.command),
            Outcome::Refused(refusal) if sent > 1 && same_kind(&chore.wanted, &refusal) => {}
            _ if chore.wanted == Wanted::Anything => {}
            _ if self.deals.is_in_doubt() => {}
            other => self.complain(format!("{:?} came to {other:?}", chore.command)),
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        self.deals.on_event(now, event, &*self.verifier);
        self.carry_out_deals(now);
    }

    fn on_note(&mut self, now: Instant, note: Note) {
        let note = match note {
            Note::Chores(chores) => return self.chores.extend(chores),
            Note::NodeForgot => return self.start_over(),
            note => note,
        };
        self.deals.on_note(now, note, &mut self.rng);
        self.carry_out_deals(now);
    }

    fn start_over(&mut self) {
        self.errands.clear();
        self.told = Told::default();
        self.deals.on_forgot();
        // Whatever of it the node still knows, it refuses to do again.
        let again = self.from_nothing.iter().map(|chore| Chore { wanted: Wanted::Anything, ..chore.clone() });
        self.chores = again.collect();
    }

    // -- what is to be done

    /// Does what is due now; safe to call at any time.
    fn proceed(&mut self, now: Instant) {
        self.deals.on_time(now);
        self.consider_terms(now);
        self.carry_out_deals(now);
        match self.session {
            Session::Off { redial_at } if redial_at <= now => {
                let conn = self.conns.allocate();
                self.session = Session::Dialling(conn);
                let (address, peer) = (self.address.clone(), self.node);
                self.net(NetCommand::Connect { conn, purpose: Purpose::AppNode, address, peer });
            }
            Session::Off { .. } | Session::Dialling(_) => {}
            Session::Greeted(conn) => {
                let chore_runs = self.errands.values().any(|errand| errand.why == Why::Chore);
                if let Some(chore) = self.chores.front().filter(|_| !chore_runs) {
                    let command = chore.command.clone();
                    self.run(now, command, Why::Chore);
                }
                self.send_errands(now, conn);
            }
        }
    }

    /// Accepts the terms of friends that have been known for long enough.
    fn consider_terms(&mut self, now: Instant) {
        let Some(patience) = self.reset_patience else { return };
        let mut accepted = Vec::new();
        let friends = &self.book.friends;
        self.terms_since.retain(|key, _| friends.contains_key(key));
        for (key, friend) in friends {
            let ChannelReport::Inconsistent { theirs: Some(terms), .. } = &friend.channel else {
                self.terms_since.remove(key);
                continue;
            };
            let since = self.terms_since.entry(*key).or_insert(now);
            if *since + patience <= now {
                *since = now;
                let command = Command::ResetFriend { name: friend.name.clone(), terms: terms.clone() };
                accepted.push(Chore { command, wanted: Wanted::Anything });
            }
        }
        self.chores.extend(accepted);
    }

    fn run(&mut self, now: Instant, command: Command, why: Why) {
        let id = CommandId(self.rng.bytes());
        self.errands.insert(id, Errand { command, why, sent: 0, under_way: false, not_before: now });
    }

    fn send_errands(&mut self, now: Instant, conn: ConnId) {
        let mut messages = Vec::new();
        for (id, errand) in &mut self.errands {
            if !errand.under_way && errand.not_before <= now {
                errand.under_way = true;
                errand.sent += 1;
                *self.replies_due.entry(*id).or_default() += 1;
                messages.push(AppMessage::Command { id: *id, command: errand.command.clone() });
            }
        }
        for message in &messages {
            self.say(conn, message);
        }
    }

    /// Turns what the deals want into commands and notes.
    fn carry_out_deals(&mut self, now: Instant) {
        while let Some((deal, wish)) = self.deals.next_wish() {
            if let Some(command) = self.deals.command(deal, &wish) {
                self.run(now, command, Why::Deal(deal, wish));
            }
        }
        while let Some((to, note)) = self.deals.next_note(self.me) {
            self.outputs.push_back(PersonOutput::Note { to, note });
        }
        let complaints = self.deals.take_complaints();
        self.complaints.extend(complaints);
    }

    fn say(&mut self, conn: ConnId, message: &AppMessage) {
        self.net(NetCommand::Send { conn, bytes: encode(message) });
    }

    fn net(&mut self, command: NetCommand) {
        self.outputs.push_back(PersonOutput::Net(command));
    }

    fn alarm(&self) -> Option<Alarm> {
        let redial = match self.session {
            Session::Off { redial_at } => Some(redial_at),
            Session::Dialling(_) => None,
            Session::Greeted(_) => {
                self.errands.values().filter(|errand| !errand.under_way).map(|errand| errand.not_before).min()
            }
        };
        let terms = self.terms_since.values().min().copied().zip(self.reset_patience).map(|(since, wait)| since + wait);
        let at = [redial, terms, self.deals.alarm()].into_iter().flatten().min()?;
        Some(Alarm { at, why: "person" })
    }
}

/// Whether a refusal is the one that is as good as done, whatever name it mentions.
fn same_kind(wanted: &Wanted, refusal: &Refusal) -> bool {
    match wanted {
        Wanted::DoneOr(expected) => std::mem::discriminant(expected) == std::mem::discriminant(refusal),
        Wanted::Done | Wanted::Anything => false,
    }
}

/// A person, shared by the app that runs and the world that looks on.
#[derive(Clone)]
pub struct SharedPerson(pub Rc<RefCell<Person>>);

impl Machine for SharedPerson {
    type Input = HostInput;
    type Output = PersonOutput;

    fn handle(&mut self, now: Instant, input: HostInput) {
        let mut person = self.0.borrow_mut();
        match input {
            HostInput::Net(event) => person.on_net(now, event),
            HostInput::Note(note) => {
                person.on_note(now, note);
                person.carry_out_deals(now);
            }
            HostInput::Tick
            | HostInput::JoinEnded { .. }
            | HostInput::Durable(_)
            | HostInput::Wall(_)
            | HostInput::NetworkReturned
            | HostInput::Drain => {}
        }
        person.proceed(now);
    }

    fn poll_output(&mut self) -> Option<PersonOutput> {
        self.0.borrow_mut().outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        self.0.borrow().alarm()
    }
}

impl Resident for SharedPerson {
    fn input(input: HostInput) -> Option<HostInput> {
        Some(input)
    }

    fn effect(output: PersonOutput) -> Option<Effect> {
        Some(match output {
            PersonOutput::Net(command) => Effect::Net(command),
            PersonOutput::Note { to, note } => Effect::Note { to, note },
        })
    }
}

/// A person's app.
pub struct App(pub SharedPerson);

impl Program for App {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        Vec::new()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.0.0.borrow_mut().on_start(boot.now);
        Ok(Box::new(Hosted::new(self.0.clone(), vec![HostInput::Tick])))
    }
}
