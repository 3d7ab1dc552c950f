//! Two friends whom bytes drive: honest ones, ones who may find something wrong, and one who lies.
//!
//! | the first byte | what else may happen | what must hold |
//! |---|---|---|
//! | honest | a schedule (see `schedule.rs`) | they never disagree |
//! | disputes | and one sees something wrong where nothing is, or restores an old copy | they agree again once people have decided |
//! | lies | and side 1 signs batches that its machine would never make | nothing is kept of one that is refused; the same as above |
//!
//! A liar's own books may be wrong; what is checked of both is that they come to rest and mirror each other.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use offset_protocol::bytes::{Nonce, PlainLock};
use offset_protocol::codec;
use offset_protocol::friend::{
    Body, CurrencyOperations, FriendMessage, Header, batch_hash, body_hash, next_head, totals_hash,
};
use offset_protocol::fuzz::{Cheap, Choices};
use offset_protocol::machine::Seed;
use offset_protocol::payment::{Collect, Request};

use super::pair::*;
use super::schedule::{Action, Disputes, World};
use super::*;

/// Actions of one input.
const MAX_ACTIONS: usize = 400;

/// What a friend may do beside being honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    Honest,
    Disputes,
    Lies,
}

/// Plays the schedule that `choices` are.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    let company = [Company::Honest, Company::Disputes, Company::Lies][choices.below(3) as usize];
    let accepts = choices.below(4) as usize;
    let mut world = World::new();
    for _ in 0..MAX_ACTIONS {
        if choices.is_empty() {
            break;
        }
        if company == Company::Lies && choices.once_in(12) {
            lie(&mut world, choices);
            continue;
        }
        let disputes = if company == Company::Honest { Disputes::Never } else { Disputes::Sometimes };
        world.act(Action::read(disputes, choices));
    }
    if company == Company::Lies && world.pair.is_linked {
        // What a liar's own machine then says may look like something that was heard before; a new link shows it.
        world.pair.unlink();
    }
    world.finish(accepts);
}

impl Action {
    /// The next action. About as frequent as in the properties of this crate's tests.
    fn read(disputes: Disputes, choices: &mut Choices) -> Action {
        let kind = choices.below(128);
        let who = choices.below(2) as usize;
        let pick = |choices: &mut Choices| choices.byte().into();
        match kind {
            0..20 => {
                let currency = choices.below(3) as usize;
                Action::Ask { who, currency, amount: 1 + u128::from(choices.below(60)), hop: choices.flip() }
            }
            20..40 => Action::Answer { who, pick: pick(choices), how: choices.below(8) as u8 },
            40..48 => Action::Follow { who, pick: pick(choices), commits: choices.flip() },
            48..78 => Action::Round { who, end: End::Speaks },
            78..80 => Action::Round { who, end: End::CrashesBeforePersist },
            80..82 => Action::Round { who, end: End::CrashesAfterPersist },
            82..104 => Action::Deliver { to: who, count: 1 + choices.below(4) as usize },
            104..106 => Action::Again { to: who, pick: pick(choices) },
            106 | 107 => Action::Unlink,
            108..113 => Action::Link,
            113..117 => {
                let (currency, how) = (choices.below(3) as usize, choices.below(6) as u8);
                Action::Configure { who, currency, how, limit: choices.below(200).into() }
            }
            117 => Action::Relays { who, number: choices.byte() },
            118..123 => Action::Wait { ms: 1 + choices.below(80) },
            123 => Action::Accept { who },
            124 if disputes == Disputes::Sometimes => Action::Forge { who },
            125 if disputes == Disputes::Sometimes => Action::Backup { who },
            126 if disputes == Disputes::Sometimes => Action::Restore { who },
            _ => Action::Accept { who },
        }
    }
}

/// A batch that a liar prepares for an honest node.
pub(super) struct Lie {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
}

/// The batch that would be next for `victim`, with the totals as they are.
pub(super) fn next_batch(victim: &Channel, body: &Body) -> Lie {
    let body = codec::encode(body);
    let body_hash = body_hash(&body);
    let totals: Vec<_> = victim.friends_totals().collect();
    let header = Header {
        epoch: victim.core.epoch,
        seq: victim.core.applied.seq + 1,
        ack: victim.core.signed_for.seq,
        body_hash,
        head: next_head(&victim.core.applied.head, &body_hash),
        friend_head: victim.core.signed_for.head,
        totals_hash: totals_hash(&totals),
    };
    Lie { header, body }
}

pub(super) fn operations(operations: Vec<Operation>) -> Body {
    let group = CurrencyOperations { currency: usd(), operations: List::try_from(operations).unwrap() };
    Body { operations: List::try_from(vec![group]).unwrap(), ..Body::default() }
}

impl Lie {
    /// Totals of the only currency, as the liar's batch leaves them.
    pub(super) fn state_totals(&mut self, victim: &Channel, change: impl FnOnce(&mut CurrencyTotals)) {
        let mut totals = victim.currencies[&usd()].seen.mirrored(usd()).unwrap();
        change(&mut totals);
        self.header.totals_hash = totals_hash(&[totals]);
    }

    pub(super) fn sign(&self, liar: usize) -> FriendMessage {
        let header = codec::encode(&self.header);
        let signature = Cheap::signature(&KEYS[liar], &batch_hash(&KEYS[liar], &KEYS[1 - liar], &header));
        FriendMessage::Batch(Batch {
            header: Blob::try_from(header).unwrap(),
            body: Blob::try_from(self.body.clone()).unwrap(),
            signature,
        })
    }
}

/// Side 1 says something to side 0 that its machine would not say. What side 0 refuses leaves no trace.
fn lie(world: &mut World, choices: &mut Choices) {
    world.had_dispute = true;
    let victim = world.pair.channel(0).clone();
    let lie = any_lie(&victim, choices);
    let FriendMessage::Batch(batch) = lie.sign(1) else { unreachable!("a lie is a batch") };
    if matches!(victim.standing(), Standing::Consistent { .. }) {
        let mut trial = victim.clone();
        let mut rng = Seed::from_number(0).rng();
        let mut env = Env { now: world.pair.now, verifier: &Cheap(KEYS[0]), rng: &mut rng };
        let mut events = Vec::new();
        if trial.try_batch(&mut env, batch.clone(), &mut events).is_err() {
            assert!(events.is_empty(), "told of a batch that was refused: {events:?}");
            assert_same(&trial, &victim);
        }
    }
    world.pair.hand(0, FriendMessage::Batch(batch));
}

fn any_lie(victim: &Channel, choices: &mut Choices) -> Lie {
    let body = Body {
        operations: List::truncated((0..choices.below(3)).map(|_| CurrencyOperations {
            currency: any_currency(choices),
            operations: List::truncated((0..choices.below(4)).map(|_| any_operation(victim, choices))),
        })),
        currencies: choices.once_in(8).then(|| List::truncated((0..choices.below(4)).map(|_| any_currency(choices)))),
        ..Body::default()
    };
    let mut lie = next_batch(victim, &body);
    if choices.once_in(16) {
        let length = choices.byte();
        lie.body = choices.take(length.into()).to_vec();
        lie.header.body_hash = body_hash(&lie.body);
        lie.header.head = next_head(&victim.core.applied.head, &lie.header.body_hash);
    }
    // A batch that has only one thing wrong gets furthest, so most have the totals that they lead to.
    if !choices.once_in(8) {
        let totals = totals_after(victim, &lie);
        lie.header.totals_hash = totals.unwrap_or(lie.header.totals_hash);
    }
    if choices.once_in(6) {
        spoil(&mut lie.header, choices);
    }
    lie
}

/// The totals that a batch leads to, by the victim's own reckoning.
fn totals_after(victim: &Channel, lie: &Lie) -> Option<Hash> {
    let FriendMessage::Batch(batch) = lie.sign(1) else { return None };
    let mut rng = Seed::from_number(0).rng();
    let env = Env { now: Instant::ZERO, verifier: &Cheap(KEYS[0]), rng: &mut rng };
    victim.clone().totals_behind(&env, &batch)
}

fn spoil(header: &mut Header, choices: &mut Choices) {
    let number = match choices.below(4) {
        0 => choices.number(),
        1 => 0,
        _ => choices.below(4),
    };
    match choices.below(6) {
        0 => header.epoch = number,
        1 => header.seq = header.seq.wrapping_sub(2).wrapping_add(number),
        2 => header.ack = header.ack.wrapping_sub(2).wrapping_add(number),
        3 => header.head = Hash([number as u8; 32]),
        4 => header.friend_head = Hash([number as u8; 32]),
        _ => header.body_hash = Hash([number as u8; 32]),
    }
}

fn any_currency(choices: &mut Choices) -> Currency {
    ["EUR", "USD", "ZAR", "X"][choices.below(4) as usize].parse().unwrap()
}

/// About a request that there is, or one that there is not.
fn any_operation(victim: &Channel, choices: &mut Choices) -> Operation {
    let theirs = victim.all_incoming().map(|(_, open)| open.request.clone());
    let ours = victim.all_outgoing().map(|(_, open)| open.request.clone());
    let all: Vec<Request> = theirs.chain(ours).collect();
    let some = match choices.place(all.len() + 1) {
        Some(place) if place < all.len() => all[place].clone(),
        _ => request(1_000 + choices.below(40), any_amount(choices)),
    };
    let request_id = some.request_id;
    match choices.below(10) {
        0..=2 => Operation::Request(Request {
            request_id: if choices.once_in(3) { request_id } else { id(2_000 + choices.below(256)) },
            left_fees: if choices.once_in(4) { any_amount(choices) } else { 0 },
            route: List::truncated((0..choices.below(3)).map(|n| [KEYS[0], SELLER, KEYS[1]][n as usize])),
            ..request(0, any_amount(choices))
        }),
        3 | 4 => {
            let seller = some.route.last().copied().unwrap_or(KEYS[1]);
            let mut answer = response(&some, seller, any_currency(choices));
            if choices.once_in(4) {
                answer.nonce = Nonce([choices.byte(); 16]);
            }
            Operation::Response(answer)
        }
        5 => cancel(request_id),
        6 | 7 if choices.once_in(4) => Operation::Collect(Collect {
            request_id,
            src_plain_lock: PlainLock([choices.byte(); 32]),
            dest_plain_lock: PlainLock([0; 32]),
        }),
        6 | 7 => collect(request_id),
        8 => commit(request_id),
        _ => withdraw(request_id),
    }
}

fn any_amount(choices: &mut Choices) -> u128 {
    match choices.below(12) {
        0 => u128::from(choices.number()) << choices.below(64),
        1 => u128::MAX - u128::from(choices.byte()),
        2 => 0,
        _ => 1 + u128::from(choices.byte()),
    }
}
