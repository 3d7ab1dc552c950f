//! Two friends under any schedule of speaking, delivering, breaking links and crashing.
//!
//! While it goes on: no request ends twice, nobody accepts beyond a limit, a restart gives the very state that runs, and no
//! number of a log is used for two batches. When all has healed: the two sides mirror each other, every request has ended, every
//! queue is empty, and the balance is what was collected.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use offset_protocol::friend::FriendMessage;
use offset_protocol::fuzz::Cheap;
use offset_protocol::payment::Request;

use super::pair::*;
use super::*;

/// What happens next. Sides are 0 and 1.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Ask {
        who: usize,
        currency: usize,
        amount: u128,
        hop: bool,
    },
    Answer {
        who: usize,
        pick: usize,
        how: u8,
    },
    Follow {
        who: usize,
        pick: usize,
        commits: bool,
    },
    Round {
        who: usize,
        end: End,
    },
    Deliver {
        to: usize,
        count: usize,
    },
    /// A batch arrives twice.
    Again {
        to: usize,
        pick: usize,
    },
    Unlink,
    Link,
    Configure {
        who: usize,
        currency: usize,
        how: u8,
        limit: u128,
    },
    Relays {
        who: usize,
        number: u8,
    },
    Wait {
        ms: u64,
    },
    Forge {
        who: usize,
    },
    Backup {
        who: usize,
    },
    Restore {
        who: usize,
    },
    Accept {
        who: usize,
    },
}

fn currency(number: usize) -> Currency {
    ["EUR", "USD", "ZAR"][number].parse().unwrap()
}

/// Whether a side may see something wrong where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disputes {
    Never,
    Sometimes,
}

/// The seller of a request, as its route says.
fn seller(request: &Request, receiver: usize) -> PublicKey {
    request.route.last().copied().unwrap_or(KEYS[receiver])
}

fn pick<T>(mut all: Vec<T>, pick: usize) -> Option<T> {
    if all.is_empty() { None } else { Some(all.swap_remove(pick % all.len())) }
}

pub(super) struct World {
    pub(super) pair: Pair,
    asked: u64,
    pub(super) had_dispute: bool,
    backups: [Option<Box<Backup>>; 2],
}

impl World {
    pub(super) fn new() -> World {
        let mut pair = Pair::new();
        for party in &mut pair.parties {
            for number in 0..2 {
                party.channel.open_currency(currency(number)).unwrap();
                party.channel.set_max_debt(currency(number), 300).unwrap();
            }
            party.persist();
        }
        World { pair, asked: 0, had_dispute: false, backups: [None, None] }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Ask { who, currency: number, amount, hop } => self.ask(who, number, amount, hop),
            Action::Answer { who, pick: number, how } => self.answer(who, number, how),
            Action::Follow { who, pick: number, commits } => self.follow(who, number, commits),
            Action::Round { who, end } => self.pair.round(who, end),
            Action::Deliver { to, count } => (0..count).for_each(|_| {
                self.pair.deliver(to);
            }),
            Action::Again { to, pick } => self.again(to, pick),
            Action::Unlink if self.pair.is_linked => self.pair.unlink(),
            Action::Link if !self.pair.is_linked => self.pair.link(),
            Action::Unlink | Action::Link => {}
            Action::Configure { who, currency: number, how, limit } => {
                self.configure(who, currency(number), how, limit)
            }
            Action::Relays { who, number } => {
                let address = format!("relay:{number}").parse().unwrap();
                let relays = List::try_from(vec![RelayAddress { public_key: SELLER, address }]).unwrap();
                self.pair.channel(who).set_relays(relays);
            }
            Action::Wait { ms } => self.pair.wait(ms),
            Action::Forge { who } => {
                self.had_dispute = true;
                self.pair.forge(who);
            }
            Action::Backup { who } => self.backups[who] = Some(Box::new(self.pair.parties[who].backup())),
            Action::Restore { who } => {
                if let Some(backup) = &self.backups[who] {
                    self.had_dispute = true;
                    self.pair.parties[who].restore_backup(backup);
                    self.pair.round(who, End::CrashesBeforePersist);
                }
            }
            Action::Accept { who } => self.accept(who),
        }
        self.end_link_if_asked();
        self.assert_honest_agree();
    }

    /// What a node does when its channel asks for it. Two friends who agree never do.
    fn end_link_if_asked(&mut self) {
        if std::mem::take(&mut self.pair.wants_no_link) {
            assert!(self.had_dispute, "an honest friend loses its link");
            self.pair.unlink();
        }
    }

    /// A batch that is on its way comes once more, behind itself.
    fn again(&mut self, to: usize, number: usize) {
        let wire = &mut self.pair.wire[to];
        let batches = wire.iter().enumerate().filter(|(_, message)| matches!(message, FriendMessage::Batch(_)));
        if let Some((place, message)) = pick(batches.map(|(place, message)| (place, message.clone())).collect(), number)
        {
            wire.insert(place + 1, message);
        }
    }

    fn ask(&mut self, who: usize, number: usize, amount: u128, hop: bool) {
        self.asked += 1;
        let mut request = Request { left_fees: u128::from(hop) * 3, ..request(self.asked, amount) };
        if hop {
            request.route = List::try_from(vec![SELLER]).unwrap();
        }
        let _ = self.pair.enqueue_in(who, currency(number), Operation::Request(request));
    }

    fn answer(&mut self, who: usize, number: usize, how: u8) {
        let all =
            self.pair.channel(who).all_incoming().map(|(currency, open)| (currency, open.request.clone())).collect();
        let Some((currency, request)) = pick(all, number) else {
            return;
        };
        let response = Operation::Response(response(&request, seller(&request, who), currency));
        let id = request.request_id;
        let operations = match how {
            0..3 => vec![response],
            3 | 4 => vec![cancel(id)],
            5 => vec![collect(id)],
            _ => vec![response, collect(id)],
        };
        for operation in operations {
            let _ = self.pair.enqueue_in(who, currency, operation);
        }
    }

    fn follow(&mut self, who: usize, number: usize, commits: bool) {
        let channel = self.pair.channel(who);
        let sent = channel.all_outgoing().map(|(currency, open)| (currency, open.request.request_id));
        let queued = channel.all_queued().map(|(currency, operation)| (currency, queue::request_id(operation)));
        let Some((currency, id)) = pick(sent.chain(queued).collect(), number) else {
            return;
        };
        let operation = if commits { commit(id) } else { withdraw(id) };
        let _ = self.pair.enqueue_in(who, currency, operation);
    }

    fn configure(&mut self, who: usize, currency: Currency, how: u8, limit: u128) {
        let channel = self.pair.channel(who);
        let mut events = Vec::new();
        let _ = match how {
            0 | 1 => channel.open_currency(currency),
            2 => channel.close_currency(currency, &mut events),
            3 => channel.remove_currency(currency),
            _ => channel.set_max_debt(currency, limit),
        };
        self.pair.parties[who].note(events);
    }

    fn accept(&mut self, who: usize) {
        let channel = self.pair.channel(who);
        if let Standing::Inconsistent { theirs: Some(terms), .. } = channel.standing() {
            let terms = terms.clone();
            self.pair.parties[who].read_terms();
            let mut events = Vec::new();
            let channel = self.pair.channel(who);
            let _ = channel.accept_terms(&terms, &Cheap(KEYS[who]), &mut events);
            self.pair.parties[who].note(events);
        }
    }

    fn assert_honest_agree(&mut self) {
        assert!(self.had_dispute || !self.is_disputed(), "two honest friends disagree");
    }

    fn is_disputed(&mut self) -> bool {
        (0..2).any(|who| matches!(self.pair.channel(who).standing(), Standing::Inconsistent { .. }))
    }

    /// Everything works again; users settle disputes.
    fn heal(&mut self, accepts: usize) {
        self.settle();
        self.assert_honest_agree();
        for round in 0..4 {
            if !self.is_disputed() {
                return;
            }
            self.accept((accepts + round) % 2);
            if accepts >= 2 {
                self.accept((accepts + round + 1) % 2);
            }
            self.settle();
        }
        panic!("the dispute does not end");
    }

    /// The friends say all that they have to say, over one link or, if a channel ends it, the next.
    fn settle(&mut self) {
        for _ in 0..4 {
            if !self.pair.is_linked {
                self.pair.link();
            }
            self.pair.settle();
            self.end_link_if_asked();
            if self.pair.is_linked {
                return;
            }
        }
        panic!("no link lasts");
    }

    /// Every open request ends.
    fn resolve(&mut self) {
        for round in 0..4 {
            for who in 0..2 {
                let open = self.pair.channel(who).all_incoming().count();
                (0..open).for_each(|number| self.answer(who, number, if (number + round) % 2 == 0 { 6 } else { 3 }));
                let all: Vec<_> =
                    self.pair.channel(who).all_incoming().map(|(c, open)| (c, open.request.clone())).collect();
                for (currency, request) in all {
                    let _ = self.pair.enqueue_in(who, currency, cancel(request.request_id));
                }
            }
            self.settle();
        }
    }

    fn check_end(&mut self) {
        self.pair.assert_mirrored();
        self.pair.assert_lists_known();
        for who in 0..2 {
            let party = &self.pair.parties[who];
            let channel = &party.channel;
            assert_eq!(channel.all_outgoing().count() + channel.all_incoming().count(), 0);
            assert!(channel.queue.is_empty(), "stuck");
            assert_eq!(channel.window_used, 0, "content that nobody signed for");
            assert!(channel.crossing.is_empty());
            for (id, end) in &party.app.ours {
                assert!(end.is_some(), "request {id:?} never ended");
            }
            for (currency, state) in &channel.currencies {
                let totals = state.ledger.totals();
                assert_eq!((totals.out_frozen, totals.in_frozen), (0, 0));
                let earned = party.app.earned.get(currency).copied().unwrap_or_default();
                assert_eq!(totals.balance, earned, "in {currency}");
            }
        }
    }

    /// Everything heals, every request ends, and nothing may be wrong then. `accepts` says who gives in first.
    pub(super) fn finish(&mut self, accepts: usize) {
        self.heal(accepts);
        self.pair.assert_mirrored();
        self.resolve();
        self.check_end();
    }
}

/// Plays a schedule to its end.
pub(super) fn play(actions: Vec<Action>, accepts: usize) {
    let mut world = World::new();
    actions.into_iter().for_each(|action| world.act(action));
    world.finish(accepts);
}
