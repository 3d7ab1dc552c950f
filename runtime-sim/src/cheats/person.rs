//! A cheating person: an honest app, with a filter around what it tells others and what it asks of its node.
//!
//! | trick of a | is played where |
//! |---|---|
//! | buyer | its note with the commit leaves |
//! | seller | its offer leaves; its node is told to collect or to cancel |

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use offset_protocol::app::{AppMessage, Command};
use offset_protocol::codec::decode;
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Alarm, Instant};
use offset_protocol::net::{NetCommand, Purpose};
use offset_protocol::payment::{Commit, Invoice};

use super::hand::SharedHand;
use super::{PersonTrick, Trick};
use crate::dice::Dice;
use crate::host::{Boot, Effect, HostId, HostInput, LawBroken, Process, Program};
use crate::people::{App, DealId, Note};

/// What the person does with a commit.
const WITH_COMMITS: [PersonTrick; 5] = [
    PersonTrick::CommitTwice,
    PersonTrick::CommitToOthers,
    PersonTrick::CommitOfOther,
    PersonTrick::NeverCommit,
    PersonTrick::BentCommit,
];

/// What the person remembers.
#[derive(Default)]
struct Memory {
    /// From whom it buys.
    sellers: BTreeMap<DealId, HostId>,
    commits: Vec<Commit>,
    /// What others offered to it.
    offers: Vec<Invoice>,
}

/// The app of a cheating person.
pub(crate) struct CheatingApp {
    app: App,
    hand: SharedHand<PersonTrick>,
    memory: Rc<RefCell<Memory>>,
}

impl CheatingApp {
    pub(super) fn new(app: App, hand: SharedHand<PersonTrick>) -> Self {
        CheatingApp { app, hand, memory: Rc::default() }
    }
}

impl Program for CheatingApp {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        self.app.ports()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.hand.borrow_mut().start();
        let app = self.app.start(boot)?;
        Ok(Box::new(Filter { app, hand: self.hand.clone(), memory: self.memory.clone() }))
    }
}

struct Filter {
    app: Box<dyn Process>,
    hand: SharedHand<PersonTrick>,
    memory: Rc<RefCell<Memory>>,
}

impl Process for Filter {
    fn push(&mut self, input: HostInput) {
        if let HostInput::Note(Note::Offer { invoice, .. }) = &input {
            self.memory.borrow_mut().offers.push(invoice.clone());
        }
        self.app.push(input);
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        let mut wanted = Vec::new();
        self.app.turn(now, dice, &mut wanted)?;
        for effect in wanted {
            match effect {
                Effect::Note { to, note } => self.on_note(now, to, note, effects),
                Effect::Net(NetCommand::Send { conn, bytes }) if !self.is_withheld(now, &bytes) => {
                    effects.push(Effect::Net(NetCommand::Send { conn, bytes }));
                }
                Effect::Net(NetCommand::Send { .. }) => {}
                other => effects.push(other),
            }
        }
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        self.app.alarm()
    }

    fn machine(&self) -> &dyn Any {
        self.app.machine()
    }
}

impl Filter {
    /// Whether the node never hears this.
    fn is_withheld(&self, now: Instant, bytes: &[u8]) -> bool {
        let Ok(AppMessage::Command { command, .. }) = decode(bytes, MAX_FRAME) else { return false };
        let trick = match command {
            Command::CommitInvoice { .. } => PersonTrick::NeverCollect,
            Command::CancelInvoice { .. } => PersonTrick::NeverCancel,
            _ => return false,
        };
        self.hand.borrow_mut().draw(now, &[trick]).is_some()
    }

    fn on_note(&mut self, now: Instant, to: HostId, note: Note, effects: &mut Vec<Effect>) {
        let mut memory = self.memory.borrow_mut();
        match note {
            Note::Ask { deal, .. } => {
                memory.sellers.insert(deal, to);
                effects.push(Effect::Note { to, note });
            }
            Note::Commit { deal, commit } => {
                let fits = |trick: &PersonTrick| match trick {
                    PersonTrick::CommitToOthers => memory.sellers.len() > 1,
                    PersonTrick::CommitOfOther => !memory.commits.is_empty(),
                    _ => true,
                };
                let among: Vec<PersonTrick> = WITH_COMMITS.into_iter().filter(fits).collect();
                let drawn = self.hand.borrow_mut().draw(now, &among);
                let told = |to, deal, commit| Effect::Note { to, note: Note::Commit { deal, commit } };
                match drawn {
                    Some(PersonTrick::CommitTwice) => effects.push(told(to, deal, commit.clone())),
                    Some(PersonTrick::CommitToOthers) => {
                        let others = memory.sellers.iter().filter(|(other, _)| **other != deal);
                        effects.extend(others.map(|(other, seller)| told(*seller, *other, commit.clone())));
                    }
                    Some(PersonTrick::CommitOfOther) => {
                        let place = self.hand.borrow_mut().dice.below(memory.commits.len() as u64) as usize;
                        return effects.push(told(to, deal, memory.commits[place].clone()));
                    }
                    Some(PersonTrick::NeverCommit) => return,
                    Some(PersonTrick::BentCommit) => {
                        let mut bent = commit.clone();
                        bent.src_plain_lock.0[0] ^= 1;
                        return effects.push(told(to, deal, bent));
                    }
                    _ => {}
                }
                memory.commits.push(commit.clone());
                effects.push(told(to, deal, commit));
            }
            Note::Offer { deal, invoice } => {
                let others = memory.offers.first().filter(|other| other.seller != invoice.seller).cloned();
                let drawn =
                    others.filter(|_| self.hand.borrow_mut().draw(now, &[PersonTrick::OthersInvoice]).is_some());
                effects.push(Effect::Note { to, note: Note::Offer { deal, invoice: drawn.unwrap_or(invoice) } });
            }
            note => effects.push(Effect::Note { to, note }),
        }
    }
}

/// As evidence names it.
pub(super) const fn name(trick: PersonTrick) -> Trick {
    Trick::Person(trick)
}
