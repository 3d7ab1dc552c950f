//! Scenarios: one input, exactly these outputs, nothing left.

use super::*;
use offset_protocol::machine::Duration;

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn conn(n: u64) -> ConnId {
    ConnId::incoming(n)
}

struct Relay {
    share: RelayShare,
    server: RelayServer,
    now: Instant,
    next: u64,
}

impl Relay {
    fn new(limits: Limits) -> Self {
        let (share, server) = (limits.share(), RelayServer::new(limits));
        Relay { share, server, now: Instant::from_micros(1_000), next: 0 }
    }

    fn for_chosen(nodes: &[PublicKey]) -> Self {
        let mut relay = Relay::new(Limits::default());
        relay.server = RelayServer::for_chosen(Limits::default());
        nodes.iter().for_each(|&node| relay.expect(Input::Allow { node }, &[]));
        relay
    }

    /// One input, exactly these outputs.
    fn expect(&mut self, input: Input, outputs: &[Output]) {
        assert_eq!(self.feed(input), outputs);
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        self.server.handle(self.now, input);
        self.server.assert_consistent();
        std::iter::from_fn(|| self.server.poll_output()).collect()
    }

    fn incoming(&mut self, peer: PublicKey, from: &str) -> (ConnId, Vec<Output>) {
        self.next += 1;
        let conn = conn(self.next);
        let from = from.parse().unwrap();
        let outputs = self.feed(Input::Net(NetEvent::Incoming { conn, purpose: Purpose::NodeRelay, peer, from }));
        (conn, outputs)
    }

    fn admit(&mut self, peer: PublicKey) -> ConnId {
        let (conn, outputs) = self.incoming(peer, &format!("host{}", peer.0[0]));
        assert_eq!(outputs, [Output::Net(NetCommand::Admit { conn })]);
        conn
    }

    fn listen(&mut self, peer: PublicKey) -> ConnId {
        let conn = self.admit(peer);
        let listening = send(conn, FromRelay::Listening { share: self.share });
        self.expect(says(conn, &ToRelay::Listen), &[listening, Output::Resume { conn }]);
        conn
    }

    /// `from` calls `to`, which listens on `listener`.
    fn call(&mut self, from: PublicKey, to: PublicKey, listener: ConnId) -> ConnId {
        let conn = self.admit(from);
        self.expect(says(conn, &ToRelay::Connect { to }), &[send(listener, FromRelay::Incoming { from })]);
        conn
    }

    fn tunnel(&mut self, from: PublicKey, to: PublicKey, listener: ConnId) -> (ConnId, ConnId) {
        let a = self.call(from, to, listener);
        let b = self.admit(to);
        self.expect(says(b, &ToRelay::Accept { from }), &joined(a, b));
        (a, b)
    }

    /// Lets time pass until the next alarm, and ticks.
    fn expect_alarm(&mut self, after: Duration, outputs: &[Output]) {
        let alarm = self.server.poll_timeout().unwrap();
        assert_eq!(alarm.at, self.now + after);
        self.now = alarm.at - Duration::from_micros(1);
        self.expect(Input::Tick, &[]);
        self.now = alarm.at;
        self.expect(Input::Tick, outputs);
        assert!(self.server.poll_timeout().is_none_or(|next| next.at > self.now));
    }
}

fn says(conn: ConnId, message: &ToRelay) -> Input {
    Input::Net(NetEvent::Message { conn, bytes: encode(message) })
}

fn send(conn: ConnId, message: FromRelay) -> Output {
    Output::Net(NetCommand::Send { conn, bytes: encode(&message) })
}

fn listening(conn: ConnId) -> Output {
    send(conn, FromRelay::Listening { share: Limits::default().share() })
}

fn close(conn: ConnId) -> Output {
    Output::Net(NetCommand::Close { conn })
}

fn failed(conn: ConnId, reason: FailReason) -> [Output; 2] {
    [send(conn, FromRelay::Failed { reason }), close(conn)]
}

fn joined(a: ConnId, b: ConnId) -> [Output; 3] {
    [send(a, FromRelay::Ready), send(b, FromRelay::Ready), Output::Join { a, b }]
}

const A: PublicKey = PublicKey([1; 32]);
const B: PublicKey = PublicKey([2; 32]);
const C: PublicKey = PublicKey([3; 32]);

#[test]
fn a_call_that_is_accepted_becomes_a_tunnel_and_its_end_frees_everything() {
    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let (a, b) = relay.tunnel(A, B, listener);
    assert_eq!(relay.server.counts(), Counts { listeners: 1, tunnels: 1, ..Counts::default() });
    relay.expect(Input::JoinEnded { a, b }, &[]);
    relay.expect(Input::Net(NetEvent::Closed { conn: a }), &[]);
    relay.expect(Input::Net(NetEvent::Closed { conn: listener }), &[]);
    assert_eq!(relay.server.counts(), Counts::default());
    assert_eq!(relay.server.poll_timeout(), None);
}

#[test]
fn a_tunnel_end_that_closes_takes_the_other_with_it() {
    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let (a, b) = relay.tunnel(A, B, listener);
    relay.expect(Input::Net(NetEvent::Closed { conn: b }), &[close(a)]);
    relay.expect(Input::JoinEnded { a, b }, &[]);
}

#[test]
fn a_call_fails_at_once_when_nobody_listens_or_the_listener_leaves_or_says_no() {
    let mut relay = Relay::new(Limits::default());
    let a = relay.admit(A);
    relay.expect(says(a, &ToRelay::Connect { to: B }), &failed(a, FailReason::NotListening));

    let listener = relay.listen(B);
    let a = relay.call(A, B, listener);
    let reason = RejectReason::Unknown;
    let mut outputs = failed(a, FailReason::Rejected { reason }).to_vec();
    outputs.push(Output::Resume { conn: listener });
    relay.expect(says(listener, &ToRelay::Reject { from: A, reason }), &outputs);
    // A late answer is no offence.
    relay.expect(says(listener, &ToRelay::Reject { from: A, reason }), &[Output::Resume { conn: listener }]);

    let a = relay.call(A, B, listener);
    relay.expect(Input::Net(NetEvent::Closed { conn: listener }), &failed(a, FailReason::NotListening));
}

#[test]
fn a_new_listener_replaces_the_old_one_at_once_and_hears_of_the_calls_that_wait() {
    let mut relay = Relay::new(Limits::default());
    let old = relay.listen(B);
    let a = relay.call(A, B, old);
    let new = relay.admit(B);
    let mut outputs = failed(old, FailReason::Replaced).to_vec();
    outputs.extend([listening(new), Output::Resume { conn: new }]);
    outputs.push(send(new, FromRelay::Incoming { from: A }));
    relay.expect(says(new, &ToRelay::Listen), &outputs);
    // The end of the old connection, however late, touches nothing.
    relay.expect(Input::Net(NetEvent::Closed { conn: old }), &[]);
    let b = relay.admit(B);
    relay.expect(says(b, &ToRelay::Accept { from: A }), &joined(a, b));
}

#[test]
fn a_newer_call_replaces_the_older_one_and_its_tunnel() {
    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let first = relay.call(A, B, listener);
    let second = relay.admit(A);
    let mut outputs = failed(first, FailReason::Replaced).to_vec();
    outputs.push(send(listener, FromRelay::Incoming { from: A }));
    relay.expect(says(second, &ToRelay::Connect { to: B }), &outputs);
    let b = relay.admit(B);
    relay.expect(says(b, &ToRelay::Accept { from: A }), &joined(second, b));

    let third = relay.call(A, B, listener);
    let again = relay.admit(B);
    let mut outputs = vec![close(second), close(b)];
    outputs.extend(joined(third, again));
    relay.expect(says(again, &ToRelay::Accept { from: A }), &outputs);
}

#[test]
fn calls_both_ways_make_two_tunnels_and_the_share_of_either_end_holds() {
    let mut limits = Limits::default();
    limits.tunnel_ends.per_identity = 2;
    let mut relay = Relay::new(limits);
    let (at_a, at_b) = (relay.listen(A), relay.listen(B));
    relay.tunnel(A, B, at_b);
    relay.tunnel(B, A, at_a);
    assert_eq!(relay.server.counts().tunnels, 2);
    let caller = relay.call(C, B, at_b);
    let taker = relay.admit(B);
    let mut outputs = failed(caller, FailReason::Busy { limit: LimitScope::Other }).to_vec();
    outputs.extend(failed(taker, FailReason::Busy { limit: LimitScope::Identity }));
    relay.expect(says(taker, &ToRelay::Accept { from: C }), &outputs);
}

#[test]
fn only_the_called_node_can_accept_and_only_once() {
    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let a = relay.call(A, B, listener);
    let thief = relay.admit(C);
    relay.expect(says(thief, &ToRelay::Accept { from: A }), &failed(thief, FailReason::NoSuchConnection));
    let b = relay.admit(B);
    relay.expect(says(b, &ToRelay::Accept { from: A }), &joined(a, b));
    let twice = relay.admit(B);
    relay.expect(says(twice, &ToRelay::Accept { from: A }), &failed(twice, FailReason::NoSuchConnection));
}

#[test]
fn silence_ends_a_set_up_after_5_s_and_a_half_after_15_s() {
    let mut relay = Relay::new(Limits::default());
    let silent = relay.admit(A);
    let mut outputs = vec![Output::Misbehaved { conn: silent, peer: A, rule: Misbehaviour::Silent }];
    outputs.extend(failed(silent, FailReason::Timeout));
    relay.expect_alarm(Duration::from_secs(5), &outputs);

    let listener = relay.listen(B);
    let a = relay.call(A, B, listener);
    relay.expect_alarm(Duration::from_secs(15), &failed(a, FailReason::Timeout));
    assert_eq!(relay.server.poll_timeout(), None);
}

#[test]
fn what_has_no_place_on_a_connection_ends_it() {
    let mut relay = Relay::new(Limits::default());
    let garbage = relay.admit(A);
    let misbehaved = |conn, peer, rule| [Output::Misbehaved { conn, peer, rule }, close(conn)];
    let bytes = vec![0xff; 100];
    relay
        .expect(Input::Net(NetEvent::Message { conn: garbage, bytes }), &misbehaved(garbage, A, Misbehaviour::Garbage));
    let early = relay.admit(A);
    let reject = ToRelay::Reject { from: B, reason: RejectReason::Busy };
    relay.expect(says(early, &reject), &misbehaved(early, A, Misbehaviour::Unexpected));

    let listener = relay.listen(B);
    let a = relay.call(A, B, listener);
    let mut outputs = misbehaved(listener, B, Misbehaviour::Unexpected).to_vec();
    outputs.extend(failed(a, FailReason::NotListening));
    relay.expect(says(listener, &ToRelay::Listen), &outputs);
    // Nothing is known of a connection that never came.
    relay.expect(says(conn(999), &ToRelay::Listen), &[]);
    relay.expect(Input::JoinEnded { a: conn(1), b: conn(2) }, &[]);
}

#[test]
fn another_purpose_is_not_admitted() {
    let mut relay = Relay::new(Limits::default());
    let event = |purpose| NetEvent::Incoming { conn: conn(1), purpose, peer: A, from: "host".parse().unwrap() };
    relay.expect(Input::Net(event(Purpose::NodeIndex)), &[close(conn(1))]);
    assert_eq!(relay.server.counts(), Counts::default());
}

#[test]
fn every_limit_is_told_by_whose_it_is() {
    let small = Quota { per_identity: 10, per_address: 2, total: 3 };
    let limits = Limits { setups: small, ..Limits::default() };
    let mut relay = Relay::new(limits);
    let mut outputs = |n, host: &str, limit: Option<LimitScope>| {
        let (conn, outputs) = relay.incoming(key(n), host);
        let mut expected = vec![Output::Net(NetCommand::Admit { conn })];
        if let Some(limit) = limit {
            expected.extend(failed(conn, FailReason::Busy { limit }));
        }
        assert_eq!(outputs, expected);
    };
    outputs(1, "x", None);
    outputs(2, "x", None);
    outputs(3, "x", Some(LimitScope::Address));
    outputs(3, "y", None);
    outputs(4, "z", Some(LimitScope::Total));

    let limits = Limits { waiting_calls: 1, ..Limits::default() };
    let mut relay = Relay::new(limits);
    let listener = relay.listen(B);
    relay.call(A, B, listener);
    let c = relay.admit(C);
    let busy = FailReason::Busy { limit: LimitScope::Other };
    relay.expect(says(c, &ToRelay::Connect { to: B }), &failed(c, busy));
}

#[test]
fn an_identity_that_used_up_its_share_loses_its_oldest_not_its_newest() {
    let mut limits = Limits::default();
    limits.setups.per_identity = 1;
    limits.halves.per_identity = 1;
    let mut relay = Relay::new(limits);
    let busy = FailReason::Busy { limit: LimitScope::Identity };
    let dead = relay.admit(A);
    let (alive, outputs) = relay.incoming(A, "elsewhere");
    let mut expected = vec![Output::Net(NetCommand::Admit { conn: alive })];
    expected.extend(failed(dead, busy));
    assert_eq!(outputs, expected);

    let (at_b, at_c) = (relay.listen(B), relay.listen(C));
    relay.expect(says(alive, &ToRelay::Connect { to: B }), &[send(at_b, FromRelay::Incoming { from: A })]);
    let newer = relay.admit(A);
    let mut outputs = failed(alive, busy).to_vec();
    outputs.push(send(at_c, FromRelay::Incoming { from: A }));
    relay.expect(says(newer, &ToRelay::Connect { to: C }), &outputs);
}

#[test]
fn draining_tells_everybody_and_leaves_tunnels_five_seconds() {
    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let (a, b) = relay.tunnel(A, B, listener);
    let half = relay.call(C, B, listener);
    let setup = relay.admit(C);
    let mut outputs = vec![send(listener, FromRelay::Closing), close(listener)];
    outputs.extend(failed(half, FailReason::Closing));
    outputs.extend(failed(setup, FailReason::Closing));
    relay.expect(Input::Drain, &outputs);
    relay.expect(Input::Drain, &[]);

    let (late, outputs) = relay.incoming(C, "host");
    let mut expected = vec![Output::Net(NetCommand::Admit { conn: late })];
    expected.extend(failed(late, FailReason::Closing));
    assert_eq!(outputs, expected);
    relay.expect_alarm(Duration::from_secs(5), &[close(a), close(b), Output::Drained]);
    assert_eq!(relay.server.poll_timeout(), None);
}

#[test]
fn draining_ends_with_the_last_tunnel() {
    let mut relay = Relay::new(Limits::default());
    relay.expect(Input::Drain, &[Output::Drained]);

    let mut relay = Relay::new(Limits::default());
    let listener = relay.listen(B);
    let (a, b) = relay.tunnel(A, B, listener);
    relay.expect(Input::Drain, &[send(listener, FromRelay::Closing), close(listener)]);
    relay.expect(Input::JoinEnded { a, b }, &[Output::Drained]);
}

#[test]
fn a_relay_for_chosen_nodes_tells_all_others_so() {
    let mut relay = Relay::for_chosen(&[B]);
    let (stranger, outputs) = relay.incoming(A, "host");
    let mut expected = vec![Output::Net(NetCommand::Admit { conn: stranger }), Output::TurnedAway { peer: A }];
    expected.extend(failed(stranger, FailReason::NotAllowed));
    assert_eq!(outputs, expected);
    assert_eq!(relay.server.counts(), Counts::default());
    let listener = relay.listen(B);
    relay.expect(Input::Allow { node: A }, &[]);
    relay.tunnel(A, B, listener);
    // Everybody stays everybody.
    let mut relay = Relay::new(Limits::default());
    relay.expect(Input::Allow { node: A }, &[]);
    let listener = relay.listen(B);
    relay.expect(Input::Disallow { node: B }, &[]);
    relay.call(C, B, listener);
}

#[test]
fn a_node_that_is_no_longer_chosen_loses_everything_at_once() {
    let mut relay = Relay::for_chosen(&[A, B, C]);
    let (at_a, at_b) = (relay.listen(A), relay.listen(B));
    let (taken, taker) = relay.tunnel(A, B, at_b);
    let at_c = relay.listen(C);
    let (called, callee) = relay.tunnel(B, C, at_c);
    let waits_for_b = relay.call(C, B, at_b);
    let of_b = relay.call(B, A, at_a);
    let set_up = relay.admit(B);
    let mut outputs = failed(set_up, FailReason::NotAllowed).to_vec();
    outputs.extend(failed(at_b, FailReason::NotAllowed));
    outputs.extend(failed(waits_for_b, FailReason::NotListening));
    outputs.extend(failed(of_b, FailReason::NotAllowed));
    outputs.extend([close(taker), close(taken), close(called), close(callee)]);
    relay.expect(Input::Disallow { node: B }, &outputs);
    assert_eq!(relay.server.counts(), Counts { listeners: 2, ..Counts::default() });
    relay.expect(Input::Disallow { node: B }, &[]);
    let (again, outputs) = relay.incoming(B, "host");
    assert_eq!(outputs[2..], failed(again, FailReason::NotAllowed));
    // Those that it spoke with are served as before.
    relay.tunnel(C, A, at_a);
}

#[test]
fn a_drain_that_waits_for_a_tunnel_ends_with_the_node_that_is_no_longer_chosen() {
    let mut relay = Relay::for_chosen(&[A, B]);
    let listener = relay.listen(B);
    let (a, b) = relay.tunnel(A, B, listener);
    relay.feed(Input::Drain);
    relay.expect(Input::Disallow { node: A }, &[close(a), close(b), Output::Drained]);
}

#[test]
fn limits_that_lock_everybody_out_or_cannot_be_reached_are_named() {
    assert_eq!(Limits::default().check(), Ok(()));
    let wrong = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits.check().unwrap_err().to_string()
    };
    let sentence = "halves per identity must be at most 100: that is all that there are";
    assert_eq!(wrong(|limits| limits.halves = Quota { per_identity: 101, per_address: 100, total: 100 }), sentence);
    let sentence = "listeners per address must be at least 1, or nobody is served";
    assert_eq!(wrong(|limits| limits.listeners.per_address = 0), sentence);
    assert!(wrong(|limits| limits.setups.total = 0).starts_with("set-ups in total"));
    assert!(
        wrong(|limits| limits.tunnel_ends = Quota { per_identity: 1, per_address: 1, total: 1 }).contains("least 2")
    );
    assert!(wrong(|limits| limits.waiting_calls = 0).starts_with("calls that wait for one node"));
    assert!(wrong(|limits| limits.tunnel_rate.bytes_per_s = 0).contains("32768"));
    assert!(wrong(|limits| limits.tunnel_rate.burst_bytes = 0).starts_with("bytes at once"));
}
