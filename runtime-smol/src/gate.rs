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
//! 2. An address is what one subscriber usually holds: an IPv4 address, or a /64 of IPv6.
//! 3. At most [`MAX_ADDRESSES`] addresses are remembered. One whose bucket is full again is forgotten: it would get the same
//!    one anew. With a full table newcomers share one bucket, a quarter of what everybody has: a sweep over millions of
//!    addresses costs no memory, and neither keeps out those who are known nor all the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offset_protocol::machine::{Duration, Instant};

/// Addresses whose accepts are counted. Chosen freely: they take about a MiB. With limits as they are by default far fewer
/// buckets than this can be less than full at any time, because all accepts together are limited first.
pub const MAX_ADDRESSES: usize = 16_384;
/// A full table is swept no more often, so that a sweep over addresses does not buy a sweep over the table with each of them.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// What a bucket counts in: an accept costs this much, so that a bucket fills by whole numbers each microsecond.
const ACCEPT: u64 = 1_000_000;

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
    /// at 8 KiB each they hold 8 MiB; one address has a quarter, so that it never keeps others out.
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
    /// Those for whom there is no room in the table.
    others: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
    total: u32,
    shaking: HashMap<IpAddr, u32>,
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
    address: Option<IpAddr>,
}

impl Gate {
    /// A door that nobody has come through.
    pub fn new(limits: DoorLimits) -> Self {
        let quarter = |total: u32, one: u32| (total / 4).max(one);
        let others = AcceptRate {
            per_s: quarter(limits.accepts.per_s, limits.accepts_per_address.per_s),
            burst: quarter(limits.accepts.burst, limits.accepts_per_address.burst),
        };
        let state = State {
            everybody: Bucket::full(limits.accepts),
            others: Bucket::full(others),
            by_address: HashMap::new(),
            swept: None,
            total: 0,
            shaking: HashMap::new(),
        };
        Gate { limits, state: Arc::new(Mutex::new(state)) }
    }

    /// A place for a peer at `address`, who comes now.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Ticket, Full> {
        let address = site(address);
        let mut state = self.lock();
        if !state.everybody.has_one(now) {
            return Err(Full::TotalRate);
        }
        if state.total >= self.limits.handshakes {
            return Err(Full::Total);
        }
        if state.shaking.get(&address).is_some_and(|here| *here >= self.limits.handshakes_per_address) {
            return Err(Full::Address);
        }
        let bucket = state.bucket_of(address, self.limits.accepts_per_address, now);
        if !bucket.has_one(now) {
            return Err(Full::AddressRate);
        }
        bucket.take_one();
        state.everybody.take_one();
        *state.shaking.entry(address).or_default() += 1;
        state.total += 1;
        Ok(Ticket { gate: self.clone(), address: Some(address) })
    }

    /// Handshakes in progress now.
    pub fn in_progress(&self) -> usize {
        usize::try_from(self.lock().total).unwrap_or(usize::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bucket_of(&mut self, address: IpAddr, rate: AcceptRate, now: Instant) -> &mut Bucket {
        let is_full = self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&address);
        if is_full && self.swept.is_none_or(|swept| now >= swept + SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.by_address.retain(|_, bucket| !bucket.is_full(now));
        }
        if is_full && self.by_address.len() >= MAX_ADDRESSES {
            return &mut self.others;
        }
        self.by_address.entry(address).or_insert_with(|| Bucket::full(rate))
    }
}

/// Tokens for accepts.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: AcceptRate,
    /// In parts of an accept: see [`ACCEPT`].
    tokens: u64,
    /// Up to when it was filled.
    filled: Option<Instant>,
}

impl Bucket {
    const fn full(rate: AcceptRate) -> Self {
        Bucket { rate, tokens: rate.burst as u64 * ACCEPT, filled: None }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(0, |filled| now.since(filled).as_micros());
        let earned = passed.saturating_mul(u64::from(self.rate.per_s));
        self.tokens = self.tokens.saturating_add(earned).min(u64::from(self.rate.burst) * ACCEPT);
        self.filled = Some(now);
    }

    fn has_one(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= ACCEPT
    }

    fn take_one(&mut self) {
        self.tokens = self.tokens.saturating_sub(ACCEPT);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= u64::from(self.rate.burst) * ACCEPT
    }
}

impl Ticket {
    /// The handshake is over.
    pub fn give_back(&mut self) {
        let Some(address) = self.address.take() else { return };
        let mut state = self.gate.lock();
        state.total = state.total.saturating_sub(1);
        if let Some(here) = state.shaking.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                state.shaking.remove(&address);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What one subscriber usually holds: an IPv4 address, or a /64 of IPv6.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
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

    #[test]
    fn one_address_never_keeps_the_others_out() {
        let gate = Gate::default();
        let most = limits().handshakes_per_address;
        let mut held: Vec<_> = (0..most).map(|_| gate.enter(address(1), START).unwrap()).collect();
        assert_eq!(gate.enter(address(1), START).unwrap_err(), Full::Address);
        assert!(gate.enter(address(2), START).is_ok());
        held.truncate(1);
        held[0].give_back();
        drop(held);
        assert_eq!(gate.in_progress(), 0);
        assert!(gate.lock().shaking.is_empty());
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let gate = Gate::default();
        let most = limits().handshakes as usize;
        let held: Vec<_> = (0..most).map(|n| gate.enter(address(n), START).unwrap()).collect();
        assert_eq!(gate.enter(address(9_999), START).unwrap_err(), Full::Total);
        drop(held);
        assert!(gate.enter(address(9_999), START).is_ok());
    }

    #[test]
    fn a_subscriber_is_counted_once_however_many_addresses_it_has() {
        let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:1".parse().unwrap());
        assert_eq!(site(a), site(b));
        assert_eq!(site("::ffff:1.2.3.4".parse().unwrap()), IpAddr::from([1, 2, 3, 4]));
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate_and_what_is_refused_costs_nothing() {
        let rate = AcceptRate { per_s: 2, burst: 3 };
        let gate = gate(AcceptRate { per_s: 100, burst: 100 }, rate);
        let enter = |at: Instant| gate.enter(address(1), at).map(drop);
        assert_eq!([enter(START), enter(START), enter(START)], [Ok(()); 3]);
        for _ in 0..1_000 {
            assert_eq!(enter(START), Err(Full::AddressRate));
        }
        assert!(gate.enter(address(2), START).is_ok(), "those refused took nothing from the others");
        let soon = START + Duration::from_millis(499);
        assert_eq!(enter(soon), Err(Full::AddressRate));
        let later = START + Duration::from_millis(500);
        assert_eq!([enter(later), enter(later)], [Ok(()), Err(Full::AddressRate)]);
        let rested = later + Duration::from_secs(3_600);
        assert_eq!([enter(rested), enter(rested), enter(rested)], [Ok(()); 3]);
        assert_eq!(enter(rested), Err(Full::AddressRate));
    }

    #[test]
    fn all_addresses_together_have_a_rate() {
        let gate = gate(AcceptRate { per_s: 10, burst: 20 }, AcceptRate { per_s: 10, burst: 20 });
        let let_in = |at| (0..1_000).filter(|&n| gate.enter(address(n), at).is_ok()).count();
        assert_eq!(let_in(START), 20);
        assert_eq!(gate.enter(address(5_000), START).unwrap_err(), Full::TotalRate);
        assert_eq!(let_in(START + Duration::from_secs(1)), 10);
    }

    #[test]
    fn a_sweep_over_a_million_addresses_costs_no_memory_and_keeps_nobody_out() {
        // A bucket takes a minute to be full again, so that the table does fill.
        let gate = gate(AcceptRate { per_s: 100_000, burst: 100_000 }, AcceptRate { per_s: 1, burst: 60 });
        // It comes often enough that its bucket is never full again.
        let known = address(0xff_ffff);
        assert!((0..40).all(|_| gate.enter(known, START).is_ok()));
        let (mut let_in, mut most) = (0, 0);
        for n in 0..1_000_000 {
            // Over ten seconds, sixty connections of each.
            let at = START + Duration::from_micros(10 * n as u64);
            let_in += usize::from(gate.enter(address(n / 60), at).is_ok());
            let_in += usize::from(gate.enter(address(n + 0x10_0000), at).is_ok());
            most = most.max(gate.lock().by_address.len());
        }
        assert_eq!(most, MAX_ADDRESSES);
        let now = START + Duration::from_secs(10);
        assert!(gate.enter(known, now).is_ok(), "who is known has its own bucket");
        // A quarter of everybody's for those who are not, and no more.
        assert!(let_in > 250_000, "{let_in}");
        assert!(let_in < 700_000, "{let_in}");
        // Full buckets are forgotten when there is need of room.
        let an_hour = now + Duration::from_secs(3_600);
        assert!((0..MAX_ADDRESSES).all(|n| gate.enter(address(n + 0x80_0000), an_hour).is_ok()));
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
