//! Whatever comes in which order, a node passes on for others no more than its share of a line, and what it keeps is its own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ledger::guard::{OTHERS_PLACES, PLACES};

const LIMIT: u128 = 1_200;
/// What of that is kept: five twelfths less a third.
const KEPT: u128 = 100;

/// What happens to the line from party 0 to party 1.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A request of others, which goes on from the friend or ends there; said at once, or with what comes next.
    PassOn {
        amount: u128,
        onward: bool,
        at_once: bool,
    },
    /// Ours, which goes on from the friend.
    Pay(u128),
    End {
        place: usize,
        paid: bool,
    },
    Wait {
        ms: u64,
    },
}

fn deed(pays_out: bool) -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (1..200_u128, prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(amount, onward, at_once)| Deed::PassOn { amount, onward, at_once }),
        4 => (1..120_u128).prop_map(Deed::Pay),
        4 => (any::<usize>(), any::<bool>()).prop_map(move |(place, paid)| Deed::End { place, paid: paid && pays_out }),
        2 => (0..90_000_u64).prop_map(|ms| Deed::Wait { ms }),
    ]
}

/// What is open or waits, reckoned without any care.
struct Line {
    pair: Pair,
    open: BTreeMap<RequestId, (Request, Origin)>,
    number: u64,
}

impl Line {
    fn new(limit: u128) -> Line {
        let mut pair = Pair::open();
        pair.channel(1).set_max_debt(usd(), limit).unwrap();
        pair.settle();
        Line { pair, open: BTreeMap::new(), number: 0 }
    }

    /// What may be pushed while nothing is open.
    fn length(&mut self) -> u128 {
        LIMIT.checked_add_signed(totals(self.pair.channel(0), &usd()).balance).unwrap()
    }

    fn held(&self, counts: impl Fn(&Request, Origin) -> bool) -> u128 {
        let held = self.open.values().filter(|(request, origin)| counts(request, *origin));
        held.map(|(request, _)| request.dest_payment).sum()
    }

    fn onward(&self) -> u128 {
        self.held(|request, _| !request.route.is_empty())
    }

    fn ask(&mut self, origin: Origin, amount: u128, onward: bool) -> Result<RequestId, Refused> {
        self.number += 1;
        let route = List::truncated([SELLER].into_iter().filter(|_| onward));
        let request = Request { route, ..request(self.number, amount) };
        self.pair.enqueue_from(0, usd(), origin, Operation::Request(request.clone()))?;
        self.open.insert(request.request_id, (request, origin));
        Ok(id(self.number))
    }

    /// Everything is said and heard, at this moment; gives what the friend refused.
    fn exchange(&mut self) -> Vec<RequestId> {
        self.pair.exchange();
        let events = self.pair.events(0);
        let cancelled = events.iter().filter_map(|event| match event {
            ChannelEvent::Cancelled { cancel, .. } => Some(cancel.request_id),
            _ => None,
        });
        let cancelled: Vec<_> = cancelled.collect();
        cancelled.iter().for_each(|id| drop(self.open.remove(id)));
        cancelled
    }

    fn end(&mut self, place: usize, paid: bool) {
        self.exchange();
        let place = place % self.open.len().max(1);
        let Some((&id, (request, _))) = self.open.iter().nth(place) else { return };
        if paid {
            let seller = request.route.last().copied().unwrap_or(KEYS[1]);
            let response = response(request, seller, usd());
            self.pair.enqueue(1, Operation::Response(response)).unwrap();
            self.pair.enqueue(1, collect(id)).unwrap();
        } else {
            self.pair.enqueue(1, cancel(id)).unwrap();
        }
        self.exchange();
        self.open.remove(&id);
    }

    fn pass_on(&mut self, amount: u128, onward: bool, at_once: bool) {
        let most = self.pair.channel(0).allowance_ahead(&usd()).of(self.length());
        assert!(most <= self.length().div_ceil(3));
        let fits = !onward || self.onward() + amount <= most;
        assert_eq!(self.ask(Origin::Forwarded, amount, onward).is_ok(), fits, "{amount} more of {most}");
        if at_once {
            self.exchange();
        }
    }

    fn pay(&mut self, amount: u128) {
        self.exchange();
        let of_the_line = self.length().saturating_sub(self.held(|_, _| true));
        let of_what_goes_on = (self.length() * 5).div_ceil(12).saturating_sub(self.onward());
        let ours = self.held(|request, origin| !request.route.is_empty() && origin == Origin::Own);
        let id = self.ask(Origin::Own, amount, true).unwrap();
        let is_taken = !self.exchange().contains(&id);
        assert_eq!(is_taken, amount <= of_the_line.min(of_what_goes_on), "{amount} more");
        let is_kept = self.length() == LIMIT && ours + amount <= KEPT;
        assert!(is_taken || !is_kept || amount > of_the_line, "{amount} of what is kept");
    }

    fn play(&mut self, deed: Deed) {
        match deed {
            Deed::PassOn { amount, onward, at_once } => self.pass_on(amount, onward, at_once),
            Deed::Pay(amount) => self.pay(amount),
            Deed::End { place, paid } => self.end(place, paid),
            Deed::Wait { ms } => {
                self.exchange();
                self.pair.wait(ms);
                self.exchange();
            }
        }
    }
}

/// So many requests of one unit at once, or so many ends.
#[derive(Clone, Copy, Debug)]
enum Burst {
    PassOn(usize),
    Pay(usize),
    End(usize),
}

fn burst() -> impl Strategy<Value = Burst> {
    prop_oneof![
        4 => (1..900_usize).prop_map(Burst::PassOn),
        2 => (1..300_usize).prop_map(Burst::Pay),
        2 => (1..400_usize).prop_map(Burst::End),
    ]
}

impl Line {
    fn burst(&mut self, burst: Burst) {
        match burst {
            Burst::PassOn(count) => {
                for _ in 0..count {
                    let fits = self.open.len() < OTHERS_PLACES;
                    assert_eq!(self.ask(Origin::Forwarded, 1, true).is_ok(), fits, "{} are open", self.open.len());
                }
                assert_eq!(self.exchange(), []);
            }
            Burst::Pay(count) => {
                let left = PLACES - self.open.len();
                for _ in 0..count {
                    self.ask(Origin::Own, 1, true).unwrap();
                }
                assert_eq!(self.exchange().len(), count.saturating_sub(left));
            }
            Burst::End(count) => {
                let ends: Vec<_> = self.open.keys().take(count).copied().collect();
                for id in ends {
                    self.pair.enqueue(1, cancel(id)).unwrap();
                }
                self.exchange();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_requests_passes_the_share_of_others_nor_takes_what_is_kept(
        deeds in prop::collection::vec(deed(false), 0..80)
    ) {
        let mut line = Line::new(LIMIT);
        deeds.into_iter().for_each(|deed| line.play(deed));
        line.pair.assert_mirrored();
    }

    #[test]
    fn no_order_of_requests_passes_the_share_of_a_line_that_payments_move(
        deeds in prop::collection::vec(deed(true), 0..80)
    ) {
        let mut line = Line::new(LIMIT);
        deeds.into_iter().for_each(|deed| line.play(deed));
        line.pair.assert_mirrored();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_requests_passes_the_places_of_others(bursts in prop::collection::vec(burst(), 4..9)) {
        let mut line = Line::new(MAX_AMOUNT / 4);
        bursts.into_iter().for_each(|burst| line.burst(burst));
        line.pair.assert_mirrored();
    }
}
