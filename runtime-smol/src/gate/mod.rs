//! The door: whom we shake hands with. A stranger's handshake costs us signatures and memory before we know who it is, so
//! connections are counted, and the fast ones refused, before any of that.
//!
//! | refused | because |
//! |---|---|
//! | [`Full::TotalRate`] | all together come faster than [`DoorLimits::accepts`] allows |
//! | [`Full::AddressRate`] | one address comes faster than [`DoorLimits::accepts_per_address`] allows |
//! | [`Full::Total`], [`Full::Address`] | so many handshakes are in progress |
//!
//! 1. A refused connection costs a few look-ups under one lock, and takes nothing from any bucket.
//! 2. An address is what one subscriber usually holds: an IPv4 address, or a /56 of IPv6 ([`site`]).
//! 3. With all places for handshakes taken the oldest handshake of whoever has most gives way to somebody who has fewer: who
//!    wants to keep others out must begin them faster than honest ones end, which the rates do not let a few addresses do.
//! 4. A quarter of the rate of all is for newcomers, addresses that have not come for a second: those who come all the time
//!    cannot use it up.
//! 5. At most [`MAX_ADDRESSES`] addresses are remembered. One whose bucket is full again is forgotten: it would get the same
//!    one anew. With a full table newcomers share one bucket, a quarter of what everybody has: a sweep over millions of
//!    addresses costs no memory, and neither keeps out those who are known nor all the others.

mod bucket;
mod handshakes;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offset_protocol::machine::{Duration, Instant};

use crate::connection::Mail;
use bucket::Bucket;
use handshakes::Handshakes;

/// Addresses whose accepts are counted. Chosen freely: they take about a MiB. With limits as they are by default far fewer
/// buckets than this can be less than full at any time, because all accepts together are limited first.
pub const MAX_ADDRESSES: usize = 16_384;
/// A full table is swept no more often, so that a sweep over addresses does not buy a sweep over the table with each of them.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// A place that has not been heard of for this long is a newcomer again.
const NEWCOMER_AFTER: Duration = Duration::from_secs(1);

/// How fast connections may come: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptRate {
    /// Connections a second in the long run.
    pub per_s: u32,
    /// Connections at once after a rest.
    pub burst: u32,
}

/// The limits at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Connections from everywhere.
    pub accepts: AcceptRate,
    /// Connections from one address.
    pub accepts_per_address: AcceptRate,
    /// Handshakes in progress, in all.
    pub handshakes: u32,
    /// Handshakes in progress from one address.
    pub handshakes_per_address: u32,
}

impl Default for DoorLimits {
    /// Chosen for the worst hour of a relay on 2 small cores, its own restart: 10,000 nodes come back with their jitter, a
    /// thousand of them from behind one NAT (`tests/restart.rs` counts). A handshake costs it some 0.3 ms, so that at this
    /// rate strangers take little more than a third of 2 cores; and a single address a tenth of that. Handshakes in progress:
    /// at 8 KiB each they hold 8 MiB; one address has a quarter at most, and gives of it when all are taken.
    fn default() -> Self {
        DoorLimits {
            accepts: AcceptRate { per_s: 2_000, burst: 4_000 },
            accepts_per_address: AcceptRate { per_s: 200, burst: 2_000 },
            handshakes: 1_024,
            handshakes_per_address: 256,
        }
    }
}

/// Limits at the door that make no sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorLimitsError {
    /// Nobody would ever come in.
    #[error("{0} must be at least 1, or nobody is let in")]
    Zero(&'static str),
    /// One address may have more than all together.
    #[error("{what} per address must be at most {total}, which is that of all addresses")]
    AboveTotal {
        /// Which limit.
        what: &'static str,
        /// That of all addresses.
        total: u32,
    },
}

impl DoorLimits {
    /// Whether somebody is let in, and every limit can be reached.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn check(&self) -> Result<(), DoorLimitsError> {
        let DoorLimits { accepts, accepts_per_address: address, handshakes, handshakes_per_address } = *self;
        for (what, total, one) in [
            ("accept rate", accepts.per_s, address.per_s),
            ("accept burst", accepts.burst, address.burst),
            ("handshakes", handshakes, handshakes_per_address),
        ] {
            if total == 0 || one == 0 {
                return Err(DoorLimitsError::Zero(what));
            }
            if one > total {
                return Err(DoorLimitsError::AboveTotal { what, total });
            }
        }
        Ok(())
    }
}

/// Counts connections and handshakes.
#[derive(Clone, Debug)]
pub struct Gate {
    limits: DoorLimits,
    state: Arc<Mutex<State>>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate::new(DoorLimits::default())
    }
}

#[derive(Debug)]
struct State {
    everybody: Bucket,
    /// Those who came lately; so what is left of `everybody` is for newcomers.
    regulars: Bucket,
    /// Those for whom there is no room in the table.
    others: Bucket,
    by_address: HashMap<IpAddr, Known>,
    swept: Option<Instant>,
    handshakes: Handshakes,
}

/// An address that came lately.
#[derive(Debug)]
struct Known {
    bucket: Bucket,
    let_in: Option<Instant>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many come, from everywhere together.
    TotalRate,
    /// Too many come from this address.
    AddressRate,
    /// Too many handshakes are in progress from this address.
    Address,
    /// Too many handshakes are in progress in all.
    Total,
}

/// A place among the handshakes; given back when it is dropped, if not before.
#[derive(Debug)]
pub struct Ticket {
    gate: Gate,
    place: Option<(IpAddr, u64)>,
}

impl Gate {
    /// A door that nobody has come through.
    pub fn new(limits: DoorLimits) -> Self {
        let quarter = |total: u32, one: u32| (total / 4).max(one);
        let others = AcceptRate {
            per_s: quarter(limits.accepts.per_s, limits.accepts_per_address.per_s),
            burst: quarter(limits.accepts.burst, limits.accepts_per_address.burst),
        };
        let three_quarters = |all: u32| (all - all / 4).max(1);
        let regulars =
            AcceptRate { per_s: three_quarters(limits.accepts.per_s), burst: three_quarters(limits.accepts.burst) };
        let state = State {
            everybody: Bucket::full(limits.accepts),
            regulars: Bucket::full(regulars),
            others: Bucket::full(others),
            by_address: HashMap::new(),
            swept: None,
            handshakes: Handshakes::default(),
        };
        Gate { limits, state: Arc::new(Mutex::new(state)) }
    }

    /// A place for a peer at `address`, who comes now; `mail` reaches its connection's task, should it have to give way.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    pub fn enter(&self, address: IpAddr, now: Instant, mail: &Arc<Mail>) -> Result<Ticket, Full> {
        let site = site(address);
        let mut state = self.lock();
        let state = &mut *state;
        if !state.everybody.has_one(now) {
            return Err(Full::TotalRate);
        }
        let is_newcomer = state.is_newcomer(&site, now);
        if !is_newcomer && !state.regulars.has_one(now) {
            return Err(Full::TotalRate);
        }
        let bucket = state.bucket_of(site, self.limits.accepts_per_address, now);
        if !bucket.has_one(now) {
            return Err(Full::AddressRate);
        }
        if state.handshakes.of(&site) >= self.limits.handshakes_per_address as usize {
            if !state.handshakes.give_way_within(&site, now) {
                return Err(Full::Address);
            }
        } else if state.handshakes.total() >= self.limits.handshakes as usize && !state.handshakes.give_way_to(&site) {
            return Err(Full::Total);
        }
        state.bucket_of(site, self.limits.accepts_per_address, now).take_one();
        state.everybody.take_one();
        if !is_newcomer {
            state.regulars.take_one();
        }
        if let Some(known) = state.by_address.get_mut(&site) {
            known.let_in = Some(now);
        }
        let number = state.handshakes.add(site, now, mail);
        Ok(Ticket { gate: self.clone(), place: Some((site, number)) })
    }

    /// Handshakes in progress now.
    pub fn in_progress(&self) -> usize {
        self.lock().handshakes.total()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nobody was let in from there lately. Nobody is who has no room in the table: nothing is known of them.
    fn is_newcomer(&self, site: &IpAddr, now: Instant) -> bool {
        match self.by_address.get(site) {
            Some(known) => known.let_in.is_none_or(|let_in| now.since(let_in) >= NEWCOMER_AFTER),
            None => self.by_address.len() < MAX_ADDRESSES,
        }
    }

    fn bucket_of(&mut self, address: IpAddr, rate: AcceptRate, now: Instant) -> &mut Bucket {
        let is_full = self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&address);
        if is_full && self.swept.is_none_or(|swept| now >= swept + SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.by_address.retain(|_, known| !known.bucket.is_full(now));
        }
        if is_full && self.by_address.len() >= MAX_ADDRESSES {
            return &mut self.others;
        }
        let known = || Known { bucket: Bucket::full(rate), let_in: None };
        &mut self.by_address.entry(address).or_insert_with(known).bucket
    }
}

impl Ticket {
    /// The peer has said something.
    pub fn hear(&self) {
        if let Some((site, number)) = &self.place {
            self.gate.lock().handshakes.hear(site, *number);
        }
    }

    /// The handshake is over.
    pub fn give_back(&mut self) {
        let Some((site, number)) = self.place.take() else { return };
        self.gate.lock().handshakes.remove(site, number);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What one subscriber usually holds: an IPv4 address, or a /56 of IPv6. Phones have a /64 each; those of one /56 share what
/// an address may have, as a household behind one IPv4 address does.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 72 << 72)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1);

    fn address(n: usize) -> IpAddr {
        IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8])
    }

    fn limits() -> DoorLimits {
        DoorLimits::default()
    }

    /// A door with these rates, and no other limit.
    fn gate(accepts: AcceptRate, accepts_per_address: AcceptRate) -> Gate {
        let handshakes = u32::MAX;
        Gate::new(DoorLimits { accepts, accepts_per_address, handshakes, handshakes_per_address: handshakes })
    }

    fn enter(gate: &Gate, address: IpAddr, now: Instant) -> Result<Ticket, Full> {
        gate.enter(address, now, &Arc::default())
    }

    #[test]
    fn one_address_never_keeps_the_others_out() {
        let gate = Gate::default();
        let most = limits().handshakes_per_address;
        let mut held: Vec<_> = (0..most).map(|_| enter(&gate, address(1), START).unwrap()).collect();
        assert_eq!(enter(&gate, address(1), START).unwrap_err(), Full::Address);
        let soon = START + Duration::from_millis(49);
        assert_eq!(enter(&gate, address(1), soon).unwrap_err(), Full::Address);
        assert!(enter(&gate, address(2), START).is_ok());
        held.truncate(1);
        held[0].give_back();
        drop(held);
        assert_eq!(gate.in_progress(), 0);
        assert!(gate.lock().handshakes.is_empty());
    }

    /// An owner's app is often at the address of whatever else runs on the machine.
    #[test]
    fn handshakes_give_way_to_newer_ones_of_their_own_address_sooner_if_they_are_silent() {
        let gate = Gate::new(DoorLimits { handshakes: 100, handshakes_per_address: 3, ..limits() });
        let mails: Vec<_> = (0..6).map(|_| Arc::<Mail>::default()).collect();
        let come = |n: usize, ms| gate.enter(address(1), START + Duration::from_millis(ms), &mails[n]);
        let gave_way = || mails.iter().map(|mail| mail.gives_way()).collect::<Vec<_>>();
        let first = come(0, 0).unwrap();
        first.hear();
        let silent = come(1, 10).unwrap();
        let third = come(2, 20).unwrap();
        third.hear();
        assert_eq!(come(3, 59).unwrap_err(), Full::Address, "nobody has had its time");
        // The oldest that has said nothing, though another is older.
        let fourth = come(3, 60).unwrap();
        assert_eq!(gave_way(), [false, true, false, false, false, false]);
        silent.hear();
        fourth.hear();
        assert_eq!(come(4, 999).unwrap_err(), Full::Address, "who speaks has a second");
        let fifth = come(4, 1_000).unwrap();
        assert_eq!(gave_way(), [true, true, false, false, false, false]);
        assert_eq!(come(5, 1_019).unwrap_err(), Full::Address);
        assert_eq!(gate.in_progress(), 3);
        drop((first, silent));
        assert_eq!(gate.in_progress(), 3, "what gave way gives nothing back");
        drop((third, fourth, fifth));
        assert!(gate.lock().handshakes.is_empty());
    }

    /// Found by a reviewer: four addresses with 256 silent handshakes each kept everybody out.
    #[test]
    fn whoever_has_most_handshakes_gives_way_to_who_has_fewer() {
        let limits = DoorLimits { handshakes: 8, handshakes_per_address: 4, ..limits() };
        let gate = Gate::new(limits);
        let mails: Vec<_> = (0..8).map(|_| Arc::<Mail>::default()).collect();
        let silent: Vec<_> = (0..8).map(|n| gate.enter(address(n / 4), START, &mails[n]).unwrap()).collect();
        let gave_way = || mails.iter().map(|mail| mail.gives_way()).collect::<Vec<_>>();
        assert_eq!(enter(&gate, address(1), START).unwrap_err(), Full::Address);
        let mut honest = enter(&gate, address(9), START).unwrap();
        assert_eq!(gave_way(), [true, false, false, false, false, false, false, false]);
        let second = enter(&gate, address(8), START).unwrap();
        assert_eq!(gave_way(), [true, false, false, false, true, false, false, false]);
        assert_eq!(gate.in_progress(), 8);
        // Whoever came for it has ended, or lost its place: both are counted once.
        honest.give_back();
        drop(silent);
        drop(second);
        assert_eq!(gate.in_progress(), 0);
        assert!(gate.lock().handshakes.is_empty());
    }

    #[test]
    fn among_equals_the_oldest_gives_way_and_nobody_to_one_who_has_as_many() {
        let limits = DoorLimits { handshakes: 3, handshakes_per_address: 2, ..limits() };
        let gate = Gate::new(limits);
        let mails: Vec<_> = (0..3).map(|_| Arc::<Mail>::default()).collect();
        let held: Vec<_> = (0..3).map(|n| gate.enter(address(n), START, &mails[n]).unwrap()).collect();
        assert_eq!(enter(&gate, address(2), START).unwrap_err(), Full::Total);
        assert!(enter(&gate, address(7), START).is_ok());
        assert_eq!(mails.iter().map(|mail| mail.gives_way()).collect::<Vec<_>>(), [true, false, false]);
        drop(held);
    }

    /// Found by a reviewer: ten addresses at their own rate used up the rate of all.
    #[test]
    fn those_who_come_all_the_time_leave_a_quarter_of_the_rate_to_newcomers() {
        let gate = gate(AcceptRate { per_s: 100, burst: 100 }, AcceptRate { per_s: 50, burst: 50 });
        let (mut newcomers, mut refused) = (0, 0);
        for ms in 0..5_000_usize {
            let at = START + Duration::from_millis(ms as u64);
            (0..10).for_each(|n| drop(enter(&gate, address(n), at)));
            if ms % 100 == 99 {
                newcomers += 1;
                refused += usize::from(enter(&gate, address(100 + ms), at).is_err());
            }
        }
        assert_eq!((newcomers, refused), (50, 0));
    }

    #[test]
    fn a_subscriber_is_counted_once_however_many_addresses_it_has() {
        let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:ff::1".parse().unwrap());
        assert_eq!(site(a), site(b));
        assert_ne!(site(a), site("2001:db8:0:100::1".parse().unwrap()));
        assert_eq!(site("::ffff:1.2.3.4".parse().unwrap()), IpAddr::from([1, 2, 3, 4]));
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate_and_what_is_refused_costs_nothing() {
        let rate = AcceptRate { per_s: 2, burst: 3 };
        let gate = gate(AcceptRate { per_s: 100, burst: 100 }, rate);
        let one = |at: Instant| enter(&gate, address(1), at).map(drop);
        assert_eq!([one(START), one(START), one(START)], [Ok(()); 3]);
        for _ in 0..1_000 {
            assert_eq!(one(START), Err(Full::AddressRate));
        }
        assert!(enter(&gate, address(2), START).is_ok(), "those refused took nothing from the others");
        let soon = START + Duration::from_millis(499);
        assert_eq!(one(soon), Err(Full::AddressRate));
        let later = START + Duration::from_millis(500);
        assert_eq!([one(later), one(later)], [Ok(()), Err(Full::AddressRate)]);
        let rested = later + Duration::from_secs(3_600);
        assert_eq!([one(rested), one(rested), one(rested)], [Ok(()); 3]);
        assert_eq!(one(rested), Err(Full::AddressRate));
    }

    #[test]
    fn all_addresses_together_have_a_rate() {
        let gate = gate(AcceptRate { per_s: 10, burst: 20 }, AcceptRate { per_s: 10, burst: 20 });
        let let_in = |at| (0..1_000).filter(|&n| enter(&gate, address(n), at).is_ok()).count();
        assert_eq!(let_in(START), 20);
        assert_eq!(enter(&gate, address(5_000), START).unwrap_err(), Full::TotalRate);
        assert_eq!(let_in(START + Duration::from_secs(1)), 10);
    }

    #[test]
    fn a_sweep_over_a_million_addresses_costs_no_memory_and_keeps_nobody_out() {
        // A bucket takes a minute to be full again, so that the table does fill.
        let gate = gate(AcceptRate { per_s: 100_000, burst: 100_000 }, AcceptRate { per_s: 1, burst: 60 });
        // It comes often enough that its bucket is never full again.
        let known = address(0xff_ffff);
        assert!((0..40).all(|_| enter(&gate, known, START).is_ok()));
        let (mut let_in, mut most) = (0, 0);
        for n in 0..1_000_000 {
            // Over ten seconds, sixty connections of each.
            let at = START + Duration::from_micros(10 * n as u64);
            let_in += usize::from(enter(&gate, address(n / 60), at).is_ok());
            let_in += usize::from(enter(&gate, address(n + 0x10_0000), at).is_ok());
            most = most.max(gate.lock().by_address.len());
        }
        assert_eq!(most, MAX_ADDRESSES);
        let now = START + Duration::from_secs(10);
        assert!(enter(&gate, known, now).is_ok(), "who is known has its own bucket");
        // A quarter of everybody's for those who are not, and no more.
        assert!(let_in > 250_000, "{let_in}");
        assert!(let_in < 700_000, "{let_in}");
        // Full buckets are forgotten when there is need of room.
        let an_hour = now + Duration::from_secs(3_600);
        assert!((0..MAX_ADDRESSES).all(|n| enter(&gate, address(n + 0x80_0000), an_hour).is_ok()));
        assert!(gate.lock().by_address.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn limits_that_let_nobody_in_or_cannot_be_reached_are_named() {
        assert_eq!(limits().check(), Ok(()));
        let wrong = |change: fn(&mut DoorLimits)| {
            let mut limits = limits();
            change(&mut limits);
            limits.check().unwrap_err().to_string()
        };
        assert_eq!(wrong(|limits| limits.handshakes = 0), "handshakes must be at least 1, or nobody is let in");
        assert!(wrong(|limits| limits.accepts_per_address.per_s = 0).starts_with("accept rate"));
        let sentence = "accept burst per address must be at most 10, which is that of all addresses";
        assert_eq!(wrong(|limits| (limits.accepts.burst, limits.accepts_per_address.burst) = (10, 11)), sentence);
    }
}
