//! Every field of a scenario. [`all`] is what `stsim scenario --explain` prints.

use std::borrow::Cow;

use offset_protocol::machine::Duration;

use super::field::{Drawn, Field, Kind, Never, family_name};
use crate::faults::{FAMILIES, Family};

const MOST: u64 = u64::MAX;

const fn number(unit: &'static str, least: u64, most: u64) -> Kind {
    Kind::Number { unit, least, most }
}

const fn per_mille() -> Kind {
    number("in a thousand", 0, 1_000)
}

/// A time up to so many days.
const fn time(days: u64) -> Kind {
    Kind::Time { least: Duration::ZERO, most: Duration::from_secs(days * 86_400), never: Never::Refused }
}

const fn time_or_never(least: Duration) -> Kind {
    Kind::Time { least, most: Duration::from_secs(365 * 86_400), never: Never::Allowed }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal, $kind:expr, $default:literal, $drawn:ident;)+) => {
        $($(#[doc = $doc])+ pub const $id: Field = Field {
            name: Cow::Borrowed($name),
            kind: $kind,
            default: $default,
            drawn: Drawn::$drawn,
            doc: Cow::Borrowed(concat!($($doc),+)),
        };)+
        const FIXED: &[Field] = &[$($id),+];
    };
}

fields! {
    /// What the scenario is about, in a sentence.
    ABOUT = "about", Kind::Text, "", Not;
    /// How much of the world is simulated: everything, or the money and its routes only.
    FIDELITY = "fidelity", Kind::OneOf(&["full", "funds"]), "full", Run;
    /// Ed25519 as in production, a cheap stand-in, or the real ones in one run of twenty.
    SIGNATURES = "signatures", Kind::OneOf(&["cheap", "real", "mixed"]), "cheap", Run;
    /// X25519 for the keys of channels as in production, a cheap stand-in, or the real one in one run of twenty.
    KEYS = "keys", Kind::OneOf(&["cheap", "real", "mixed"]), "real", Run;
    /// Whether machines show rare but legal behaviour more often than by themselves.
    RARE = "rare", Kind::OneOf(&["off", "drawn"]), "off", Run;
    /// How long people pay and faults happen, before everything is healed.
    SAFETY = "phases.safety", time(366), "60s", Run;

    /// The family of graphs that says who is whose friend; or a file.
    TOPOLOGY = "topology.kind", Kind::OneOf(&["line", "ring", "star", "tree", "grid", "clique", "barabasi-albert", "watts-strogatz", "erdos-renyi", "villages", "file"]), "villages", Run;
    /// How many nodes, each with its person. A file has its own number.
    NODES = "topology.nodes", number("nodes", 1, 4_000_000), "20", Run;
    /// For a tree: how many are below each.
    BRANCHING = "topology.branching", number("nodes", 1, 1_000), "3", Run;
    /// For barabasi-albert: friends that a newcomer makes; the average is twice that.
    LINKS = "topology.links", number("friends", 1, 1_000), "3", Run;
    /// For watts-strogatz, erdos-renyi and within villages: friends on average.
    DEGREE = "topology.degree", number("friends", 1, 1_000), "6", Run;
    /// For watts-strogatz: friendships that lead far away.
    REWIRED = "topology.rewired_per_mille", per_mille(), "100", Run;
    /// For villages: people in each.
    VILLAGE = "topology.village", number("nodes", 1, 1_000_000), "10", Run;
    /// For villages: friendships from each to others.
    BRIDGES = "topology.bridges", number("friendships", 0, 1_000_000), "2", Run;
    /// Whether parts that hang together with nothing else are joined by one friendship each.
    PARTS = "topology.parts", Kind::OneOf(&["joined", "apart"]), "joined", Run;
    /// For kind file: an edge list, JSON, GraphML or describegraph; the path counts from the scenario's folder.
    FILE = "topology.file", Kind::Text, "", Not;

    /// Relays.
    RELAYS = "servers.relays", number("servers", 1, 10_000), "2", Run;
    /// Index servers, which all trust each other.
    INDEXES = "servers.indexes", number("servers", 1, 1_000), "2", Run;
    /// Relays on which a node listens; never more than there are.
    HOMES = "servers.homes", number("servers", 1, 32), "1..2", Node;
    /// Index servers that a node uses; never more than there are.
    INDEXES_USED = "servers.indexes_used", number("servers", 1, 32), "1..2", Node;

    /// How far a clock is off, either way.
    DRIFT = "clocks.drift_ppm", number("millionths", 0, 500_000), "0..100", Node;
    /// Clocks that are worse than that.
    BAD_CLOCKS = "clocks.bad_per_mille", per_mille(), "50", Run;
    /// How far those are off.
    BAD_DRIFT = "clocks.bad_drift_ppm", number("millionths", 0, 500_000), "0..20000", Node;

    /// Names of the currencies.
    CURRENCIES = "money.currencies", Kind::Texts, "CRED", Not;
    /// Currencies that two friends share; never more than there are.
    SHARED = "money.shared", number("currencies", 1, 100), "1", Friendship;
    /// Where limits come from: drawn, or half of what the topology's file says that a friendship can carry.
    LIMITS = "money.limits", Kind::OneOf(&["drawn", "file"]), "drawn", Run;
    /// What one lets the other owe.
    LIMIT = "money.limit", number("units", 0, MOST), "1000000", End;
    /// Ends that charge no part of what they pass on.
    FREE = "money.free_per_mille", per_mille(), "500", Run;
    /// What the others charge of it.
    FEE_PPM = "money.fee_ppm", number("millionths", 0, 999_999), "0..15000", End;
    /// What each end charges besides, whatever it passes on.
    FEE_ADD = "money.fee_add", number("units", 0, 4_294_967_295), "0..3", End;

    /// How long a packet takes one way: always low; between low and high; around the median; or between low and high with a slow tail.
    LATENCY = "network.latency", Kind::OneOf(&["constant", "uniform", "exponential", "log-normal", "tail"]), "log-normal", Run;
    /// For constant, uniform and tail: the shortest.
    LATENCY_LOW = "network.low", time(1), "1ms", Run;
    /// For uniform and tail: the longest of the common ones.
    LATENCY_HIGH = "network.high", time(1), "60ms", Run;
    /// For log-normal the median; for exponential the average.
    LATENCY_MEDIAN = "network.median", time(1), "20ms", Run;
    /// For log-normal: standard deviation of the logarithm.
    LATENCY_SPREAD = "network.spread_milli", number("thousandths", 0, 5_000), "600", Run;
    /// For tail: how long a slow one takes.
    LATENCY_SLOW = "network.slow", time(1), "1500ms", Run;
    /// For tail: how many are slow.
    LATENCY_SLOW_SHARE = "network.slow_per_mille", per_mille(), "10", Run;
    /// Each connection and direction; 0: no limit.
    BANDWIDTH = "network.bandwidth", number("bytes a second", 0, MOST), "0", Run;
    /// Of a connection's send buffer.
    SEND_BUFFER = "network.send_buffer", number("bytes", 64, 1 << 30), "65536", Run;
    /// Of a connection's receive buffer.
    RECEIVE_BUFFER = "network.receive_buffer", number("bytes", 64, 1 << 30), "65536", Run;
    /// How streams are cut: as they were written, or anywhere.
    SEGMENTS = "network.segments", Kind::OneOf(&["whole", "anywhere"]), "whole", Run;
    /// How long a word between two people takes at least.
    NOTE_LOW = "network.note_low", time(1), "100ms", Run;
    /// And at most.
    NOTE_HIGH = "network.note_high", time(1), "2s", Run;

    /// Who pays whom: anybody anybody at any time; along fixed pairs; everybody the next in a circle; everybody a few hubs; at a few stalls with a rush at noon; or as a file says.
    WORKLOAD = "payments.workload", Kind::OneOf(&["poisson", "fixed-route", "circular", "hub-and-spoke", "market-day", "trace"]), "poisson", Run;
    /// How many.
    PAYMENTS = "payments.count", number("payments", 0, 100_000_000), "50", Run;
    /// The first is not ordered before: cards need some seconds to be set up.
    FIRST = "payments.from", time(366), "5s", Run;
    /// The last is not ordered later than this before healing.
    QUIET = "payments.quiet", time(366), "0s", Run;
    /// How amounts are made: as given, or log-normal around the median.
    AMOUNTS = "payments.amounts", Kind::OneOf(&["given", "log-normal"]), "given", Run;
    /// For given: what the seller gets.
    AMOUNT = "payments.amount", number("units", 1, MOST), "1..3000", Payment;
    /// For log-normal: half of all are smaller.
    AMOUNT_MEDIAN = "payments.median", number("units", 1, MOST), "300", Run;
    /// For log-normal: standard deviation of the logarithm.
    AMOUNT_SPREAD = "payments.spread_milli", number("thousandths", 0, 4_000), "1000", Run;
    /// The most that mediators may get.
    MAX_FEE = "payments.max_fee", number("units", 0, MOST), "1000000", Payment;
    /// How many are committed in band; the others by hand.
    IN_BAND = "payments.in_band_per_mille", per_mille(), "500", Run;
    /// How often a buyer tries in all.
    TRIES = "payments.tries", number("tries", 1, 1_000), "1..3", Payment;
    /// After this long without an outcome a buyer withdraws.
    PATIENCE = "payments.patience", time(366), "4s..40s", Payment;
    /// Buyers who walk away: they withdraw after a moment, whatever became of the payment.
    WALKERS = "payments.walk_away_per_mille", per_mille(), "0", Run;
    /// When those do.
    WALK_AFTER = "payments.walk_away_after", time(1), "0s..3s", Payment;
    /// Buyers who pay the invoice once more, a moment later.
    AGAIN = "payments.again_per_mille", per_mille(), "0", Run;
    /// For fixed-route: how many pairs.
    ROUTES = "payments.routes", number("pairs", 1, 1_000_000), "5", Run;
    /// For hub-and-spoke and market-day: how many sell; hubs are those with the most friends.
    SELLERS = "payments.sellers", number("nodes", 1, 1_000_000), "3", Run;
    /// For hub-and-spoke and market-day: payments that go the other way, as wages do.
    BACK = "payments.back_per_mille", per_mille(), "0", Run;
    /// For trace: lines of `seconds,buyer,seller,amount[,currency]`; the path counts from the scenario's folder.
    TRACE = "payments.trace", Kind::Text, "", Not;

    /// How long after a reset was offered a person accepts the friend's terms.
    ACCEPTS_RESET = "people.accepts_reset_after", time_or_never(Duration::ZERO), "5s..60s", Node;
    /// Nodes with an app of somebody else, who may do less and tries the rest as well.
    GUESTS = "people.guests_per_mille", per_mille(), "0", Run;
    /// Nodes that are phones: their programs are stopped and started again all the time.
    PHONES = "people.phones_per_mille", per_mille(), "0", Run;
    /// How long a phone's program runs.
    ONLINE = "people.online", time(366), "20s..2m", Time;
    /// And how long it does not.
    OFFLINE = "people.offline", time(366), "5s..60s", Time;

    /// Changes of settings while payments run.
    CHANGES = "changes.count", number("changes", 0, 10_000_000), "0", Run;
    /// What is changed.
    CHANGE_KINDS = "changes.kinds", Kind::AnyOf(&["limit", "rate", "currency", "friend", "relays", "indexes", "remove"]), "limit, rate, currency, friend, relays, indexes", Not;
    /// New limits.
    CHANGE_LIMIT = "changes.limit", number("units", 0, MOST), "1000000..2000000", Time;
    /// Closed currencies and disabled friends that are opened and enabled again.
    UNDONE = "changes.undone_per_mille", per_mille(), "700", Run;
    /// After how long.
    UNDONE_AFTER = "changes.undone_after", time(366), "10ms..15s", Time;

    /// Families of faults that may happen.
    FAMILIES_ON = "faults.families", Kind::Families, "none", Not;
    /// How likely a run is without a family that may happen, each for itself.
    OFF = "faults.off_per_mille", per_mille(), "500", Run;
    /// Before this nothing goes wrong.
    FAULTS_FROM = "faults.from", time(366), "600ms, 5s", Run;

    /// Nodes that cheat, and as many relays and index servers; which tricks they play is drawn. See `[[cheater]]` for known ones.
    CHEATERS = "cheaters.share_per_mille", per_mille(), "0", Run;
    /// Before this they play no tricks.
    CHEATERS_FROM = "cheaters.from", time(366), "4s", Run;

    /// A run of more events of the queue is an error.
    MOST_EVENTS = "limits.events", number("events", 1, MOST), "18446744073709551615", Not;
    /// So is one that takes longer on the clock on the wall.
    MOST_WALL = "limits.wall", time_or_never(Duration::from_millis(1)), "never", Not;
    /// So is one that needs more memory.
    MOST_MEMORY = "limits.memory_mib", number("MiB", 1, MOST), "18446744073709551615", Not;

    /// Of the payments that end, so many are paid.
    WANT_SUCCESS = "expect.success_per_mille", per_mille(), "0", Not;
    /// So many payments are paid.
    WANT_PAID = "expect.paid", number("payments", 0, MOST), "0", Not;
    /// No more payments than this have not ended at the end.
    WANT_STUCK = "expect.stuck", number("payments", 0, MOST), "0", Not;
    /// 99 of 100 payments that are paid take no longer.
    WANT_P99 = "expect.p99_latency", time_or_never(Duration::from_micros(1)), "never", Not;
    /// After healing, nothing is open any more within this time.
    WANT_SETTLED = "expect.settled_within", time_or_never(Duration::from_micros(1)), "never", Not;
    /// Of what an honest node could pay over its honest friends, or be paid (on average of the two), cheaters never freeze more than this one way: of the node that is hit hardest.
    WANT_FROZEN = "expect.frozen_by_cheaters_per_mille", per_mille(), "1000", Not;
    /// Rare states that are reached.
    WANT_MARKS = "expect.marks", Kind::Texts, "", Not;
}

/// The field with the rate of a family of faults.
pub fn rate_of(family: Family) -> Field {
    let default = match family {
        // Each of these may need a user, or is never mended: rare, but not too rare.
        Family::Leave | Family::Backup | Family::Wipe => "20s..200s",
        _ => "1500ms..25s",
    };
    let name = family_name(family);
    Field {
        doc: Cow::Owned(format!("The average time between two faults of the family {name}, if it may happen.")),
        name: Cow::Owned(format!("faults.{name}")),
        kind: time_or_never(Duration::from_micros(1)),
        default,
        drawn: Drawn::Run,
    }
}

/// Every field, in the order in which they are explained.
pub fn all() -> Vec<Field> {
    let mut all = FIXED.to_vec();
    let behind = all.iter().position(|field| field.name == FAULTS_FROM.name).map_or(all.len(), |at| at + 1);
    all.splice(behind..behind, FAMILIES.into_iter().map(rate_of));
    all
}

/// A table that may stand in a scenario as often as one likes.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As in `[[name]]`.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields.
    pub fields: fn() -> &'static [Field],
}

/// Every such table.
pub const TABLES: [Table; 3] = [
    Table { name: "event", doc: "something that goes wrong at a time, on purpose", fields: event::all },
    Table { name: "order", doc: "payments between known people, besides the others", fields: order::all },
    Table { name: "cheater", doc: "somebody who plays known tricks", fields: cheater::all },
];

/// The fields of an `[[event]]`: something that goes wrong at a time, on purpose.
pub mod event {
    use super::{Cow, Drawn, Field, Kind, time};

    fields! {
        /// When.
        AT = "at", time(366), "30s", Run;
        /// What: the power fails; the process dies; the program is stopped, or stands still; the hosts are cut off from all others, or from each other; the network changes under their connections; they leave for good; an old copy of the database is put back; the database is lost; writes fail.
        WHAT = "what", Kind::OneOf(&["power-cut", "crash", "stop", "pause", "cut-off", "split", "roam", "leave", "restore-backup", "wipe", "disk-full"]), "power-cut", Run;
        /// Whom: `relay 0`, `any relay`, `all relays`, `300 per mille of relays`; so too `index` (`indexes`), `node` (`nodes`); `hub 0` is the node with the most friends.
        WHO = "who", Kind::Text, "any node", Not;
        /// How long; for restore-backup, how old the copy is.
        LASTS = "lasts", time(366), "30s", Run;
    }

    /// Every field of an event.
    pub fn all() -> &'static [Field] {
        FIXED
    }
}

/// The fields of an `[[order]]`: payments between known people.
pub mod order {
    use super::{Cow, Drawn, Field, Kind, MOST, number, time};

    fields! {
        /// The first is not ordered before.
        AT = "at", time(366), "30s", Run;
        /// The last is ordered within this time.
        LASTS = "lasts", time(366), "0s", Run;
        /// How many.
        COUNT = "count", number("payments", 0, 100_000_000), "1", Run;
        /// Who pays, as `who` of an event: nodes only. One of them is drawn for each payment.
        BUYER = "buyer", Kind::Text, "any node", Not;
        /// Who is paid; likewise.
        SELLER = "seller", Kind::Text, "any node", Not;
        /// What the seller gets.
        AMOUNT = "amount", number("units", 1, MOST), "1..3000", Payment;
        /// How often a buyer tries in all.
        TRIES = "tries", number("tries", 1, 1_000), "1", Payment;
        /// After this long without an outcome a buyer withdraws.
        PATIENCE = "patience", time(366), "30s", Payment;
    }

    /// Every field of an order.
    pub fn all() -> &'static [Field] {
        FIXED
    }
}

/// The fields of a `[[cheater]]`: somebody who plays known tricks.
pub mod cheater {
    use super::{Cow, Drawn, Field, Kind, per_mille, time};

    fields! {
        /// Who, as `who` of an event; all whom it names.
        WHO = "who", Kind::Text, "any node", Not;
        /// The tricks, by the names that `runtime-sim/src/cheats/plays.rs` explains.
        TRICKS = "tricks", Kind::Tricks, "", Not;
        /// Not before this.
        FROM = "from", time(366), "4s", Run;
        /// Of the opportunities that each trick has.
        PER_MILLE = "per_mille", per_mille(), "1000", Run;
    }

    /// Every field of a cheater.
    pub fn all() -> &'static [Field] {
        FIXED
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_can_be_read_and_every_name_is_used_once() {
        let tables = TABLES.iter().flat_map(|table| (table.fields)());
        for field in all().iter().chain(tables) {
            let entries: Vec<String> =
                field.default.split(", ").filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
            let optional = matches!(field.kind, Kind::Text | Kind::Texts | Kind::Tricks) && entries.is_empty();
            assert!(optional || field.read(&entries).is_ok(), "{}: {:?}", field.name, field.read(&entries));
            assert!(field.doc.trim().ends_with('.'), "{}", field.name);
        }
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|field| &field.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
