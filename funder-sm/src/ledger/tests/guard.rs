//! What requests may hold that go on from here: the share, the number, the time.

use offset_protocol::machine::{Duration, Instant};
use proptest::prelude::*;

use super::*;
use crate::ledger::guard::{Held, LASTING_SHARE, OTHERS_PLACES, PATIENCE, PLACES, Strain, offered, onward};

const LINE: u128 = 1_200;

/// A line of 1200, of which 500 may go on from here, and 400 for others than the friend.
const GRANT: Grant = Grant { is_open: true, max_debt: LINE };

fn number(id: u16) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&id.to_le_bytes());
    RequestId(bytes)
}

/// A request that ends here, or goes on to a seller.
fn asks(id: u16, amount: u128, onward: bool) -> Operation {
    let route = List::truncated([SELLER].into_iter().filter(|_| onward));
    Operation::Request(Request { request_id: number(id), route, ..request(1, amount, 0) })
}

fn ends(id: u16) -> Operation {
    Operation::Cancel(Cancel { request_id: number(id), reason: CancelReason::Seller, hops: 0 })
}

#[test]
fn what_goes_on_from_here_holds_a_share_and_the_rest_is_for_what_ends_here() {
    let mut ledger = Ledger::default();
    let mut ask = |id, amount, onward| {
        let step = ledger.receive(&from(GRANT, 0), asks(id, amount, onward)).unwrap();
        if let Step::Refused(_, reason) = step { Some(reason) } else { None }
    };
    assert_eq!(ask(1, 501, true), Some(CancelReason::Capacity), "more than five twelfths at once");
    assert_eq!(ask(2, 400, true), None);
    assert_eq!(ask(3, 101, true), Some(CancelReason::Capacity), "more than five twelfths together");
    assert_eq!(ask(4, 100, true), None);
    assert_eq!(ask(5, 1, true), Some(CancelReason::Capacity));
    assert_eq!(ask(6, 700, false), None, "all that is left may end here");
    assert_eq!(ask(7, 1, false), Some(CancelReason::Capacity), "and no more");
    assert_eq!((ledger.forwarded_count(), ledger.forwarded_frozen()), (2, 500));
    // A refused request holds nothing; a place that becomes free is used again.
    ledger.send(1, &ends(5)).unwrap();
    ledger.send(1, &ends(2)).unwrap();
    assert_eq!(ledger.onward_room(LINE), 400);
}

/// What is offered of a line of 1200 while so much is held.
fn offers(allowance: Allowance) -> [u128; 7] {
    [0, 100, 250, 300, 390, 450, 500].map(|frozen| offered(&Held { frozen, line: LINE }, Some(allowance)))
}

#[test]
fn what_is_offered_is_what_others_may_use_and_never_less_than_what_is_kept_for_the_sender() {
    assert_eq!(offers(Allowance::Full), [400, 300, 150, 100, 100, 50, 0]);
    assert_eq!(offers(Allowance::Lasting), [200, 100, 100, 100, 100, 50, 0]);
    for line in 0..40 {
        for frozen in 0..=line {
            let offer = offered(&Held { frozen, line }, Some(Allowance::Full));
            assert!(offer <= onward(line).saturating_sub(frozen), "what is accepted");
            assert!(
                frozen > 0 || offer == Allowance::Full.of(line),
                "an idle line is never offered to others for nothing"
            );
        }
    }
}

#[test]
fn what_is_offered_ends_with_the_places() {
    let mut ledger = Ledger::default();
    let limit = 12 << 40;
    let grant = Grant { max_debt: limit, ..GRANT };
    let offer = |ledger: &Ledger| {
        (ledger.offered_here(limit) > 0, ledger.offered_onward(limit, Allowance::Full).div_ceil(1 << 40))
    };
    for id in 0..4_096_u16 {
        let (count, is_onward) = (usize::from(id), usize::from(id) < PLACES);
        let kept = if count < OTHERS_PLACES { 4 } else { 1 };
        assert_eq!(offer(&ledger), (true, if is_onward { kept } else { 0 }), "{id}");
        assert_eq!(ledger.receive(&from(grant, 0), asks(id, 1, is_onward)), Ok(Step::Requested(number(id))));
    }
    assert_eq!(offer(&ledger), (false, 0));
    assert_eq!(
        ledger.receive(&from(grant, 0), asks(5_000, 1, false)),
        Ok(Step::Refused(number(5_000), CancelReason::Busy))
    );
    ledger.send(1, &ends(4_000)).unwrap();
    assert_eq!(offer(&ledger), (true, 0));
    ledger.send(1, &ends(0)).unwrap();
    assert_eq!(offer(&ledger), (true, 1));
}

#[test]
fn many_small_requests_of_others_leave_places_for_what_ends_here() {
    let mut ledger = Ledger::default();
    let most = u16::try_from(PLACES).unwrap();
    let grant = Grant { max_debt: 1 << 40, ..GRANT };
    let mut ask = |id, onward| ledger.receive(&from(grant, 0), asks(id, 1, onward)).unwrap();
    for id in 0..most {
        assert_eq!(ask(id, true), Step::Requested(number(id)));
    }
    assert_eq!(ask(most, true), Step::Refused(number(most), CancelReason::Capacity));
    for id in most + 1..4_097 {
        assert_eq!(ask(id, false), Step::Requested(number(id)));
    }
}

#[test]
fn what_we_ask_for_ourselves_is_not_limited_by_what_others_hold() {
    let mut ledger = Ledger::default();
    ledger.receive(&from(GRANT, 0), asks(1, 200, true)).unwrap();
    ledger.send(1, &asks(1, 1 << 90, true)).unwrap();
    assert_eq!(ledger.onward(), Sums { count: 1, frozen: 1 << 90 });
}

/// A bucket of a line of 1200: 200 may be held for good, another 200 for a minute.
struct Bucket {
    strain: Strain,
    held: Held,
    now: Instant,
}

impl Bucket {
    fn new(strain: Strain, frozen: u128) -> Self {
        Bucket { strain, held: Held { frozen, line: LINE }, now: Instant::ZERO + Duration::from_secs(1_000_000) }
    }

    fn after(&mut self, time: Duration) -> Allowance {
        self.now += time;
        assert!(self.strain.settle(self.now, &self.held) || self.strain == Strain::begin(self.now));
        self.strain.allowance()
    }

    /// How long until the allowance changes.
    fn wait(&self) -> Option<Duration> {
        self.strain.next_change(&self.held).map(|at| at.since(self.now))
    }
}

#[test]
fn all_of_the_share_may_be_held_for_a_minute_and_half_of_it_for_good() {
    let begin = Strain::begin(Instant::ZERO + Duration::from_secs(1_000_000));
    let mut bucket = Bucket::new(begin, 400);
    assert_eq!(bucket.wait(), Some(PATIENCE));
    assert_eq!(bucket.after(Duration::from_secs(59)), Allowance::Full);
    assert_eq!(bucket.after(Duration::from_secs(1)), Allowance::Lasting);
    assert_eq!(bucket.wait(), None, "what is held is held");
    // Little has ended: no more than the lasting share is held, and nothing refills.
    bucket.held.frozen = 200;
    assert_eq!(bucket.after(Duration::from_secs(86_400)), Allowance::Lasting);
    // All has ended: it takes as long as it took.
    bucket.held.frozen = 0;
    assert_eq!(bucket.wait(), Some(PATIENCE));
    assert_eq!(bucket.after(Duration::from_secs(59)), Allowance::Lasting);
    assert_eq!(bucket.after(Duration::from_secs(1)), Allowance::Full);
    let mut good = Bucket::new(begin, 200);
    assert_eq!(good.wait(), None);
    assert_eq!(good.after(Duration::from_secs(365 * 86_400)), Allowance::Full);
    let mut some = Bucket::new(begin, 280);
    assert_eq!(some.wait(), Some(Duration::from_secs(150)), "less above the lasting share lasts longer");
    assert_eq!(some.after(Duration::from_secs(150)), Allowance::Lasting);
}

#[test]
fn after_a_restart_what_is_held_counts_as_held_for_long() {
    let mut bucket = Bucket::new(Strain::unknown(), 400);
    assert_eq!(bucket.strain.allowance(), Allowance::Lasting);
    assert_eq!(bucket.wait(), None, "no clock yet");
    assert_eq!(bucket.after(Duration::ZERO), Allowance::Lasting);
    bucket.held.frozen = 0;
    assert_eq!(bucket.after(Duration::from_secs(59)), Allowance::Lasting);
    assert_eq!(bucket.after(Duration::from_secs(1)), Allowance::Full);
}

/// What happens to a ledger.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Ask { amount: u128, onward: bool },
    AskFailing { amount: u128 },
    End { place: usize, paid: bool },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (1..900_u128, any::<bool>()).prop_map(|(amount, onward)| Deed::Ask { amount, onward }),
        1 => (1..600_u128).prop_map(|amount| Deed::AskFailing { amount }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(place, paid)| Deed::End { place, paid }),
    ]
}

/// The requests that go on from here, counted one by one.
fn counted(ledger: &Ledger) -> (usize, u128) {
    let onward = ledger.incoming().values().filter(|open| !open.refused && !open.request.route.is_empty());
    onward.fold((0, 0), |(count, sum), open| (count + 1, sum + open.frozen()))
}

fn sums(ledger: &Ledger) -> (usize, u128) {
    (ledger.forwarded_count(), ledger.forwarded_frozen())
}

fn end(ledger: &mut Ledger, id: RequestId, paid: bool) {
    if paid && ledger.check_response(&id).is_ok() {
        ledger.send(1, &Operation::Response(Response { request_id: id, ..response(1, &US) })).unwrap();
        ledger.send(2, &Operation::Collect(Collect { request_id: id, ..collect(1) })).unwrap();
    } else {
        let cancel = Cancel { request_id: id, reason: CancelReason::Seller, hops: 0 };
        ledger.send(1, &Operation::Cancel(cancel)).unwrap();
    }
}

proptest! {
    #[test]
    fn no_order_of_requests_passes_the_share(deeds in prop::collection::vec(deed(), 0..120)) {
        let mut ledger = Ledger::default();
        for (id, deed) in (0..).zip(deeds) {
            match deed {
                Deed::Ask { amount, onward } => {
                    let room = ledger.room(LINE);
                    let step = ledger.receive(&from(GRANT, 0), asks(id, amount, onward)).unwrap();
                    let is_taken = matches!(step, Step::Requested(_));
                    if onward && is_taken {
                        prop_assert!(ledger.forwarded_frozen() <= guard::onward(ledger.line(LINE)));
                    }
                    // What ends here is refused for the limit alone.
                    prop_assert!(onward || is_taken == (amount <= room));
                }
                // A batch that turns out to be bad is undone.
                Deed::AskFailing { amount } => {
                    let before = ledger.clone();
                    let step = ledger.receive(&from(GRANT, 0), asks(id, amount, true)).unwrap();
                    ledger.undo(step);
                    prop_assert_eq!(&ledger, &before);
                }
                Deed::End { place, paid } => {
                    let open: Vec<_> = ledger.incoming().keys().copied().collect();
                    if let Some(id) = open.get(place % open.len().max(1)) {
                        end(&mut ledger, *id, paid);
                    }
                }
            }
            prop_assert_eq!(sums(&ledger), counted(&ledger));
            let mut restored = Ledger::new(*ledger.totals());
            ledger.incoming().values().for_each(|open| restored.restore_incoming((**open).clone()));
            prop_assert_eq!(&restored, &ledger);
        }
        for id in ledger.incoming().keys().copied().collect::<Vec<_>>() {
            end(&mut ledger, id, false);
        }
        prop_assert_eq!(sums(&ledger), (0, 0));
    }

    /// Whatever is held in which order: what is held above the lasting share comes to no more than the budget, and what
    /// is left of it at any time.
    #[test]
    fn no_course_of_time_passes_the_budget(steps in prop::collection::vec((0..600_u128, 0..90_000_000_u64), 1..60)) {
        let line = LINE;
        let (lasting, budget) = (line / LASTING_SHARE, line / LASTING_SHARE * u128::from(PATIENCE.as_micros()));
        let mut now = Instant::ZERO;
        let mut strain = Strain::begin(now);
        // The same bucket, reckoned without any care.
        let (mut spent, mut held) = (0_u128, 0_u128);
        for (asked, wait) in steps {
            let change = strain.next_change(&Held { frozen: held, line });
            now += Duration::from_micros(wait);
            let before = strain.allowance();
            let _ = strain.settle(now, &Held { frozen: held, line });
            spent = (spent + held.saturating_sub(lasting) * u128::from(wait))
                .saturating_sub(lasting.saturating_sub(held) * u128::from(wait))
                .min(budget);
            prop_assert_eq!(strain.allowance() == Allowance::Lasting, spent == budget || before == Allowance::Lasting && spent > 0);
            prop_assert_eq!(strain.allowance() != before, change.is_some_and(|at| at <= now));
            // A node takes what it may, and everything ends now and then.
            held = if asked < 40 { 0 } else { held.max(asked.min(strain.allowance().of(line))) };
        }
    }
}
