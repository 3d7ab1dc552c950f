//! Sites at which a machine now and then does something rare but legal, so that a simulation meets it often.
//!
//! As FoundationDB does it, a run switches each site on or off as a whole, and a site that is on strikes now and then: so
//! some runs are full of one oddity, and none of all of them at once. Each site has a generator of its own: what one draws
//! does not depend on how often others are asked.

use std::cell::Cell;

/// Every site.
pub const SITES: &[&str] = &[
    "apps: a report in small bursts",
    "apps: refuse a command as busy",
    "buyer: search again all the same",
    "channel: a batch of few operations",
    "channel: a window of one batch",
    "channel: acknowledge at once",
    "channel: resend more than was asked for",
    "channel: room for one request",
    "index client: report all",
    "index: a tick out of turn",
    "index: ask for a report again",
    "index: refuse a question as busy",
    "ledger: refuse as busy",
    "links: drop a link that works",
    "links: refuse a call",
    "relay client: reject a call as busy",
    "relay: refuse a call as busy",
    "transport: a message in small parts",
    "transport: fresh keys early",
    "transport: keepalive early",
];

/// Sites that are on in a drawn run, in a thousand. Chosen freely, as FoundationDB chose it.
const ON_PER_MILLE: u64 = 250;

const _: () = assert!(SITES.len() <= u64::BITS as usize, "the sites that are on are bits of one number");

/// Which sites a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sites {
    /// Each with a chance of a quarter, drawn from the run's seed.
    Drawn,
    /// All of them.
    All,
}

thread_local! {
    static ON: Cell<u64> = const { Cell::new(0) };
    static STATES: [Cell<u64>; SITES.len()] = const { [const { Cell::new(0) }; SITES.len()] };
}

/// From now on sites strike in this thread. The same seed, the same strikes.
pub fn arm(seed: u64, sites: Sites) {
    let mut on = 0;
    STATES.with(|states| {
        for (site, state) in states.iter().enumerate() {
            state.set(mixed(seed ^ mixed(site as u64 + 1)));
            let is_on = match sites {
                Sites::Drawn => below_thousand(state) < ON_PER_MILLE,
                Sites::All => true,
            };
            on |= u64::from(is_on) << site;
        }
    });
    ON.set(on);
}

/// From now on no site strikes in this thread, as before the first [`arm`].
pub fn disarm() {
    ON.set(0);
}

/// Whether a site strikes now.
#[inline]
#[must_use]
pub fn strikes(site: usize, per_mille: u64) -> bool {
    ON.get() >> site & 1 == 1 && STATES.with(|states| below_thousand(&states[site]) < per_mille)
}

fn below_thousand(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(GOLDEN);
    state.set(next);
    mixed(next) % 1_000
}

/// Steps of the generator SplitMix64 (Steele, Lea, Flood 2014): good enough for coins, and four instructions.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
