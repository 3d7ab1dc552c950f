//! What one peer may make the server do and hold with reports, over all its sessions.

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::{Delta, Entry, NodeToIndex, State, state_hash};
use offset_protocol::limits::{INDEX_NODE_TTL, INDEX_TICK, MAX_INDEX_CURRENCIES, MAX_INDEX_ENTRIES};
use offset_protocol::machine::Duration;
use offset_protocol::net::{ConnId, NetEvent, Purpose};

use super::manners::{ADDRESS_WORK_BURST, ADDRESS_WORK_INTERVAL, REPORT_WORK_BURST, REPORT_WORK_INTERVAL};
use super::tests::{Alone, attest, reasons, sorted};
use super::*;
use crate::world::{address, entry, key};

const LINES_A_UNIT: u64 = 16;

/// About the `n`th stranger.
fn about(n: u32) -> Entry {
    let mut bytes = [0xee; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Entry { friend: PublicKey(bytes), ..entry(1, 1_000) }
}

/// A node whose report changes in one entry again and again.
struct Pusher {
    node: u8,
    conn: ConnId,
    version: u64,
    entries: Vec<Entry>,
}

impl Pusher {
    fn new(alone: &mut Alone, node: u8, lines: u32) -> Pusher {
        let mut pusher = Pusher { node, conn: ConnId::incoming(0), version: 0, entries: Vec::new() };
        pusher.entries = sorted(&(0..lines).map(about).collect::<Vec<_>>());
        pusher.connect(alone);
        pusher.say_all(alone);
        pusher
    }

    fn connect(&mut self, alone: &mut Alone) {
        // All nodes of these tests come from one address.
        alone.net(NetEvent::Closed { conn: self.conn });
        self.conn = alone.connect_from(Purpose::NodeIndex, self.node, &address(1)).0;
    }

    fn say_all(&mut self, alone: &mut Alone) -> Vec<ServerOutput> {
        self.version += 1;
        let attestation = attest(self.node, self.version, &self.entries, alone.tick());
        let entries = List::truncated(self.entries.iter().copied());
        alone.tell(self.conn, &NodeToIndex::State(State { attestation, entries }))
    }

    /// In 200 bytes.
    fn push(&mut self, alone: &mut Alone) -> Vec<ServerOutput> {
        self.entries[0].recv_capacity += 1;
        self.version += 1;
        let attestation = attest(self.node, self.version, &self.entries, alone.tick());
        let set = List::truncated([self.entries[0]]);
        let delta = Delta { attestation, base: self.version - 1, set, removed: List::new() };
        alone.tell(self.conn, &NodeToIndex::Delta(delta))
    }
}

/// By then it is paid for that so many friends were named for the first time.
const TO_NAME_ALL: Duration = Duration::from_secs(10);

/// 590 deltas on reports of 8,192 entries were accepted in no time, 1.5 ms of the state thread each.
#[test]
fn deltas_on_a_large_report_cost_what_they_touch_however_often_the_node_reconnects() {
    let mut alone = Alone::new(ServerLimits::default());
    let mut pusher = Pusher::new(&mut alone, 1, MAX_INDEX_ENTRIES as u32);
    alone.now += TO_NAME_ALL;
    let units = MAX_INDEX_ENTRIES as u64 / LINES_A_UNIT;
    let allowed = REPORT_WORK_BURST / units;
    for push in 0..3 * allowed {
        if push % 4 == 0 {
            pusher.connect(&mut alone);
        }
        assert_eq!(reasons(&pusher.push(&mut alone)), []);
    }
    let stats = alone.server.stats();
    assert_eq!((stats.accepted, stats.refused), (1 + allowed, 3 * allowed - allowed));

    // That it is alive is heard all the same, and when some time has passed, all that it has to say.
    let known = alone.known(1);
    let attestation = attest(1, pusher.version, &known, alone.tick());
    alone.tell(pusher.conn, &NodeToIndex::Attestation(attestation));
    assert_eq!(alone.server.stats().accepted, allowed + 2);
    alone.now += REPORT_WORK_INTERVAL.times(units);
    pusher.say_all(&mut alone);
    assert_eq!(alone.known(1), pusher.entries);

    // What it may say sustained is a change each second.
    for _ in 0..100 {
        alone.now += Duration::from_secs(1);
        pusher.push(&mut alone);
        assert_eq!(alone.known(1), pusher.entries);
    }
}

/// Finding out that a delta does not come to what was signed costs as much as taking one.
#[test]
fn deltas_that_do_not_come_to_what_was_signed_are_charged_as_well() {
    let mut alone = Alone::new(ServerLimits::default());
    let pusher = Pusher::new(&mut alone, 1, 8_000);
    alone.now += TO_NAME_ALL;
    let wrong = |version, tick| {
        let set = List::truncated([entry(2, version)]);
        let attestation = attest(1, version as u64, &[entry(3, version)], tick);
        NodeToIndex::Delta(Delta { attestation, base: 1, set, removed: List::new() })
    };
    let wanted = (2..60).take_while(|version| {
        let delta = wrong(*version, alone.tick());
        alone.tell(pusher.conn, &delta).len() == 1
    });
    assert_eq!(wanted.count() as u64, REPORT_WORK_BURST.div_ceil(500), "500 units each");
    assert_eq!(alone.known(1), pusher.entries);
}

#[test]
fn a_new_session_has_what_the_last_one_left_over() {
    let mut alone = Alone::new(ServerLimits::default());
    let mut pusher = Pusher::new(&mut alone, 1, 3);
    for _ in 1..REPORT_BURST {
        assert_eq!(reasons(&pusher.push(&mut alone)), []);
    }
    for _ in 0..3 {
        pusher.connect(&mut alone);
        let outputs = pusher.push(&mut alone);
        assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::TooManyReports)]);
    }
    // As much as time has filled, and no record of it when that is all.
    alone.now += REPORT_INTERVAL.times(2);
    pusher.connect(&mut alone);
    assert_eq!([(); 3].map(|()| reasons(&pusher.push(&mut alone)).len()), [0, 0, 1]);
    alone.wait(REPORT_INTERVAL.times(REPORT_BURST + 1));
    alone.wait(INDEX_TICK);
    assert!(alone.server.memory.is_empty());
}

#[test]
fn many_identities_behind_one_address_share_what_it_may_do() {
    let mut alone = Alone::new(ServerLimits::default());
    let lines = 4_096;
    let mut pushers: Vec<Pusher> = (1..=24).map(|node| Pusher::new(&mut alone, node, lines)).collect();
    let units = u64::from(lines) / LINES_A_UNIT;
    // To name them for the first time costs half a unit for each beside.
    let left = ADDRESS_WORK_BURST - 24 * (units + u64::from(lines) / 2);
    let (allowed, each) = (24 + left.div_ceil(units), 16);
    for _ in 0..each {
        for pusher in &mut pushers {
            pusher.push(&mut alone);
        }
    }
    let said = 24 * (each + 1);
    assert!(said > allowed);
    let stats = alone.server.stats();
    assert_eq!((stats.accepted, stats.refused), (allowed, said - allowed));
    // A node from elsewhere does not notice.
    let other = alone.node(50);
    alone.report(other, 50, 1, &[entry(2, 7)]);
    assert_eq!(alone.known(50), [entry(2, 7)]);
    alone.now += ADDRESS_WORK_INTERVAL.times(units);
    pushers[0].say_all(&mut alone);
    assert_eq!(alone.known(1), pushers[0].entries);
}

/// A node whose report changes at many friends of many friends makes more work than its length says.
#[test]
fn what_a_report_moves_at_its_friends_is_charged_as_well() {
    let mut alone = Alone::new(ServerLimits::default());
    let clique: u8 = 60;
    let report = |node: u8, add: u32| {
        let others = (1..=clique).filter(|other| *other != node);
        let rate = offset_protocol::money::Rate { mul: 0, add };
        sorted(&others.map(|other| Entry { rate, ..entry(other, 5) }).collect::<Vec<_>>())
    };
    let conns: Vec<ConnId> = (1..=clique).map(|node| alone.node(node)).collect();
    for node in 1..=clique {
        alone.report(conns[usize::from(node) - 1], node, 1, &report(node, 1));
    }
    let charged = |alone: &Alone| alone.server.reports.units_owed(alone.now, &key(1));
    alone.now += Duration::from_secs(60);
    alone.report(conns[0], 1, 2, &report(1, 2));
    // Each of the 59 rates moves an arc at a friend with 59 of them: 59 · 59 / 32 lines, and the 59 of the report.
    assert_eq!(charged(&alone), (59_u64 + 59 * 59 / 32).div_ceil(LINES_A_UNIT));
}

/// One address could fill the server, and keep it full, because nothing but totals bounded what it held.
#[test]
fn one_address_holds_no_more_than_its_share_of_sessions_and_of_lines() {
    let limits = ServerLimits { max_clients_each: 3, max_lines_each: 10, ..ServerLimits::default() };
    let mut alone = Alone::new(limits);
    let crowd: Vec<ConnId> = (1..=3).map(|node| alone.connect_from(Purpose::NodeIndex, node, &address(1)).0).collect();
    let (_, outputs) = alone.connect_from(Purpose::NodeIndex, 4, &address(1));
    assert_eq!(reasons(&outputs), [EndReason::Full], "a fourth session of the address");
    // Who comes again takes the place of its own.
    let (again, outputs) = alone.connect_from(Purpose::NodeIndex, 3, &address(1));
    assert_eq!(reasons(&outputs), [EndReason::Replaced]);
    let elsewhere = alone.connect_from(Purpose::NodeIndex, 9, &address(2)).0;
    let entries = |n: u32| sorted(&(0..n).map(about).collect::<Vec<_>>());
    alone.report(crowd[0], 1, 1, &entries(5));
    // 6 of 10 lines are taken, and 4 entries and the node would be 5.
    alone.report(crowd[1], 2, 1, &entries(4));
    assert_eq!((alone.known(2).len(), alone.server.stats().refused), (0, 1));
    alone.report(crowd[1], 2, 2, &entries(3));
    assert_eq!(alone.known(2).len(), 3);
    alone.report(again, 3, 1, &[]);
    assert_eq!(alone.server.stats().refused, 2);
    alone.report(elsewhere, 9, 1, &entries(9));
    assert_eq!(alone.known(9).len(), 9);
    // A node may always say less, and that makes room for others.
    alone.report(crowd[0], 1, 2, &entries(2));
    alone.report(again, 3, 2, &entries(2));
    assert_eq!((alone.known(1).len(), alone.known(3).len()), (2, 2));
    alone.server.assert_consistent();
    // Who falls silent holds a line, and none when it is forgotten for good.
    alone.wait(INDEX_NODE_TTL);
    assert_eq!(alone.server.reports.lines_by_slot().values().sum::<u64>(), 4);
    (0..2 * ticks::TICK_MEMORY).for_each(|_| drop(alone.wait(INDEX_TICK)));
    assert!(alone.server.reports.lines_by_slot().is_empty());
    alone.server.assert_consistent();
}

#[test]
fn currencies_and_friends_that_nobody_knows_are_bounded() {
    let named = |n: usize| Entry { currency: format!("C{n}").parse().unwrap(), ..entry(2, 1) };
    let many = |range: std::ops::Range<usize>| sorted(&range.map(named).collect::<Vec<_>>());
    let limits = ServerLimits { max_currencies: MAX_INDEX_CURRENCIES + 10, ..ServerLimits::default() };
    let mut alone = Alone::new(limits);
    let (one, two) = (alone.node(1), alone.node(3));
    // Of one report.
    alone.report(one, 1, 1, &many(0..MAX_INDEX_CURRENCIES + 1));
    assert_eq!((alone.known(1).len(), alone.server.stats().refused), (0, 1));
    alone.report(one, 1, 2, &many(0..MAX_INDEX_CURRENCIES));
    assert_eq!(alone.known(1).len(), MAX_INDEX_CURRENCIES);
    // Of the server: known ones, and ten more.
    alone.report(two, 3, 1, &many(5..MAX_INDEX_CURRENCIES + 5));
    assert_eq!((alone.known(3).len(), alone.server.stats().refused), (MAX_INDEX_CURRENCIES, 1));
    alone.report(two, 3, 2, &many(11..MAX_INDEX_CURRENCIES + 11));
    assert_eq!(alone.server.stats().refused, 2);

    let limits = ServerLimits { max_numbers: 10, ..ServerLimits::default() };
    let mut alone = Alone::new(limits);
    let (one, two) = (alone.node(1), alone.node(2));
    let strangers = |range: std::ops::Range<u32>| sorted(&range.map(about).collect::<Vec<_>>());
    alone.report(one, 1, 1, &strangers(0..10));
    assert_eq!((alone.known(1).len(), alone.server.stats().refused), (0, 1));
    alone.report(one, 1, 2, &strangers(0..8));
    alone.report(two, 2, 1, &strangers(0..8));
    assert_eq!((alone.known(2).len(), alone.server.graph().numbers()), (8, 10), "friends that are known cost none");
    let delta = |version, set: Vec<Entry>, left: &[Entry]| {
        let attestation = attest(2, version, left, alone.tick());
        Delta { attestation, base: version - 1, set: List::truncated(set), removed: List::new() }
    };
    let delta = delta(2, vec![about(9)], &[strangers(0..8), vec![about(9)]].concat());
    alone.tell(two, &NodeToIndex::Delta(delta));
    assert_eq!((alone.known(2).len(), alone.server.stats().refused), (8, 2));
    assert_eq!(state_hash(&alone.known(2)), state_hash(&strangers(0..8)));
}
