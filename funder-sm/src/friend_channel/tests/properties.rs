//! Any schedule of speaking, delivering, breaking links and crashing: nothing is lost, nothing is created, all comes to rest.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Ask { who: usize, currency: usize, amount: u128, hop: bool },
    Answer { who: usize, pick: usize, how: u8 },
    Follow { who: usize, pick: usize, commits: bool },
    Round { who: usize, end: End },
    Deliver { to: usize, count: usize },
    Unlink,
    Link,
    Configure { who: usize, currency: usize, how: u8, limit: u128 },
    Relays { who: usize, number: u8 },
    Wait { ms: u64 },
    Forge { who: usize },
    Backup { who: usize },
    Restore { who: usize },
    Accept { who: usize },
}

fn currency(number: usize) -> Currency {
    ["EUR", "USD", "ZAR"][number].parse().unwrap()
}

/// Whether a side may see something wrong where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disputes {
    Never,
    Sometimes,
}

fn actions(disputes: Disputes, crashes: u32) -> impl Strategy<Value = Vec<Action>> {
    let who = 0..2usize;
    let end = prop_oneof![
        40 => Just(End::Speaks),
        crashes => Just(End::CrashesBeforePersist),
        crashes => Just(End::CrashesAfterPersist),
    ];
    let action = prop_oneof![
        20 => (who.clone(), 0..3usize, 1..60u128, any::<bool>())
            .prop_map(|(who, currency, amount, hop)| Action::Ask { who, currency, amount, hop }),
        20 => (who.clone(), any::<usize>(), 0..8u8).prop_map(|(who, pick, how)| Action::Answer { who, pick, how }),
        8 => (who.clone(), any::<usize>(), any::<bool>())
            .prop_map(|(who, pick, commits)| Action::Follow { who, pick, commits }),
        40 => (who.clone(), end).prop_map(|(who, end)| Action::Round { who, end }),
        40 => (who.clone(), 1..5usize).prop_map(|(to, count)| Action::Deliver { to, count }),
        3 => Just(Action::Unlink),
        9 => Just(Action::Link),
        6 => (who.clone(), 0..3usize, 0..6u8, 0..200u128)
            .prop_map(|(who, currency, how, limit)| Action::Configure { who, currency, how, limit }),
        2 => (who.clone(), any::<u8>()).prop_map(|(who, number)| Action::Relays { who, number }),
        10 => (1..80u64).prop_map(|ms| Action::Wait { ms }),
        2 => who.clone().prop_map(move |who| match disputes {
            Disputes::Sometimes => Action::Forge { who },
            Disputes::Never => Action::Link,
        }),
        2 => (who.clone(), any::<bool>()).prop_map(move |(who, restores)| match (disputes, restores) {
            (Disputes::Sometimes, true) => Action::Restore { who },
            (Disputes::Sometimes, false) => Action::Backup { who },
            (Disputes::Never, _) => Action::Link,
        }),
        6 => who.prop_map(|who| Action::Accept { who }),
    ];
    prop::collection::vec(action, 1..160)
}

/// The seller of a request, as its route says.
fn seller(request: &Request, receiver: usize) -> PublicKey {
    request.route.last().copied().unwrap_or(KEYS[receiver])
}

fn pick<T>(mut all: Vec<T>, pick: usize) -> Option<T> {
    if all.is_empty() { None } else { Some(all.swap_remove(pick % all.len())) }
}

struct World {
    pair: Pair,
    asked: u64,
    had_dispute: bool,
    backups: [Option<Box<Backup>>; 2],
}

impl World {
    fn new() -> World {
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

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask { who, currency: number, amount, hop } => self.ask(who, number, amount, hop),
            Action::Answer { who, pick: number, how } => self.answer(who, number, how),
            Action::Follow { who, pick: number, commits } => self.follow(who, number, commits),
            Action::Round { who, end } => self.pair.round(who, end),
            Action::Deliver { to, count } => (0..count).for_each(|_| {
                self.pair.deliver(to);
            }),
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
            let mut events = Vec::new();
            let _ = channel.accept_terms(&terms, &Cheap(KEYS[who]), &mut events);
            self.pair.parties[who].note(events);
        }
    }

    fn is_disputed(&mut self) -> bool {
        (0..2).any(|who| matches!(self.pair.channel(who).standing(), Standing::Inconsistent { .. }))
    }

    /// Everything works again; users settle disputes.
    fn heal(&mut self, accepts: usize) {
        if !self.pair.is_linked {
            self.pair.link();
        }
        self.pair.settle();
        for round in 0..4 {
            if !self.is_disputed() {
                return;
            }
            self.accept((accepts + round) % 2);
            if accepts >= 2 {
                self.accept((accepts + round + 1) % 2);
            }
            self.pair.settle();
        }
        panic!("the dispute does not end");
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
            self.pair.settle();
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
                assert!(
                    self.had_dispute || totals.balance == earned,
                    "in {currency}: {} is not {earned}",
                    totals.balance
                );
            }
        }
    }
}

fn run(actions: Vec<Action>, accepts: usize) {
    let mut world = World::new();
    for action in actions {
        world.act(action);
    }
    world.heal(accepts);
    world.pair.assert_mirrored();
    world.resolve();
    world.check_end();
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 150;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn honest_friends_never_disagree_whatever_breaks(actions in actions(Disputes::Never, 2)) {
        run(actions, 0);
    }

    #[test]
    fn friends_agree_again_after_any_dispute(actions in actions(Disputes::Sometimes, 2), accepts in 0..4usize) {
        run(actions, accepts);
    }
}
