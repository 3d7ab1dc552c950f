//! Scenarios of the client: one input, exactly these outputs, nothing left.

use super::*;
use offset_protocol::codec::encode;
use offset_protocol::net::Purpose;
use offset_protocol::relay::{FromRelay, ToRelay};

const FRIEND: PublicKey = PublicKey([1; 32]);
const STRANGER: PublicKey = PublicKey([2; 32]);
const SHARE: RelayShare = RelayShare { halves: 2, tunnel_ends: 4, bytes_per_s: 1_000, burst_bytes: 5_000 };

fn relay(n: u8) -> RelayAddress {
    RelayAddress { public_key: PublicKey([100 + n; 32]), address: format!("relay{n}:1").parse().unwrap() }
}

fn at(n: u8) -> PublicKey {
    relay(n).public_key
}

fn conn(n: u64) -> ConnId {
    ConnId::outgoing(n)
}

fn connect(n: u64, to: u8) -> Output {
    let RelayAddress { public_key: peer, address } = relay(to);
    Output::Net(NetCommand::Connect { conn: conn(n), purpose: Purpose::NodeRelay, address, peer })
}

fn send(n: u64, message: ToRelay) -> Output {
    Output::Net(NetCommand::Send { conn: conn(n), bytes: encode(&message) })
}

fn close(n: u64) -> Output {
    Output::Net(NetCommand::Close { conn: conn(n) })
}

fn opened(n: u64) -> Input {
    Input::Net(NetEvent::Opened { conn: conn(n) })
}

fn closed(n: u64) -> Input {
    Input::Net(NetEvent::Closed { conn: conn(n) })
}

fn says(n: u64, message: FromRelay) -> Input {
    Input::Net(NetEvent::Message { conn: conn(n), bytes: encode(&message) })
}

fn failed(n: u64, reason: FailReason) -> Input {
    says(n, FromRelay::Failed { reason })
}

fn tunnel(n: u64, relay: u8, direction: Direction) -> Output {
    Output::TunnelOpened { conn: conn(n), friend: FRIEND, relay: at(relay), direction }
}

fn dial(relays: &[u8]) -> Input {
    Input::Dial { friend: FRIEND, relays: relays.iter().map(|&n| relay(n)).collect() }
}

struct Client {
    machine: RelayClient,
    now: Instant,
}

impl Client {
    fn new() -> Self {
        Client {
            machine: RelayClient::new(Seed::from_number(1), ConnIds::lane(0, 1)),
            now: Instant::from_micros(1_000_000),
        }
    }

    /// One input, exactly these outputs.
    fn expect(&mut self, input: Input, outputs: &[Output]) {
        assert_eq!(self.feed(input), outputs);
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        self.machine.assert_consistent();
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    /// Lets time pass until the next alarm, which must be between `low` and `high` from now, and ticks.
    fn expect_alarm(&mut self, low: Duration, high: Duration, outputs: &[Output]) {
        let alarm = self.machine.poll_timeout().unwrap();
        assert!(alarm.at >= self.now + low && alarm.at <= self.now + high, "{alarm:?} from {:?}", self.now);
        self.now = alarm.at;
        self.expect(Input::Tick, outputs);
        assert!(self.machine.poll_timeout().is_none_or(|next| next.at > self.now));
    }

    /// A client that listens at relay 0 on its connection 0.
    fn listening() -> Self {
        let mut client = Client::new();
        client.expect(Input::AddRelay(relay(0)), &[connect(0, 0)]);
        client.expect(opened(0), &[send(0, ToRelay::Listen)]);
        client
            .expect(says(0, FromRelay::Listening { share: SHARE }), &[Output::RelayUp { relay: at(0), share: SHARE }]);
        assert!(client.machine.is_listening(at(0)));
        client
    }
}

const HALF_SECOND: Duration = Duration::from_millis(500);

#[test]
fn a_call_that_the_parent_accepts_becomes_a_tunnel() {
    let mut client = Client::listening();
    let call = Output::Incoming { relay: at(0), from: FRIEND };
    client.expect(says(0, FromRelay::Incoming { from: FRIEND }), &[call]);
    client.expect(Input::Accept { relay: at(0), from: FRIEND }, &[connect(1, 0)]);
    client.expect(Input::Accept { relay: at(0), from: FRIEND }, &[]);
    client.expect(opened(1), &[send(1, ToRelay::Accept { from: FRIEND })]);
    client.expect(says(1, FromRelay::Ready), &[tunnel(1, 0, Direction::Accepted)]);

    let bytes = vec![1, 2, 3];
    let message = Output::TunnelMessage { conn: conn(1), friend: FRIEND, bytes: bytes.clone() };
    client.expect(Input::Net(NetEvent::Message { conn: conn(1), bytes: bytes.clone() }), &[message]);
    let sent = Output::Net(NetCommand::Send { conn: conn(1), bytes: bytes.clone() });
    client.expect(Input::SendTunnel { conn: conn(1), bytes: bytes.clone() }, &[sent]);
    client.expect(closed(1), &[Output::TunnelClosed { conn: conn(1), friend: FRIEND }]);
    client.expect(Input::SendTunnel { conn: conn(1), bytes }, &[]);
    client.expect(Input::CloseTunnel { conn: conn(1) }, &[]);
    assert!(client.machine.is_idle());
}

#[test]
fn a_stranger_is_rejected_and_an_unanswered_call_forgotten() {
    let mut client = Client::listening();
    client.feed(says(0, FromRelay::Incoming { from: STRANGER }));
    let reason = RejectReason::Unknown;
    let rejected = send(0, ToRelay::Reject { from: STRANGER, reason });
    client.expect(Input::Reject { relay: at(0), from: STRANGER, reason }, &[rejected]);
    client.expect(Input::Reject { relay: at(0), from: STRANGER, reason }, &[]);

    client.feed(says(0, FromRelay::Incoming { from: STRANGER }));
    client.expect_alarm(Duration::from_secs(15), Duration::from_secs(15), &[]);
    client.expect(Input::Accept { relay: at(0), from: STRANGER }, &[]);
    assert!(client.machine.is_idle());
}

#[test]
fn a_caller_who_calls_again_meanwhile_is_offered_again() {
    let mut client = Client::listening();
    let call = || says(0, FromRelay::Incoming { from: FRIEND });
    let offer = Output::Incoming { relay: at(0), from: FRIEND };
    client.expect(call(), std::slice::from_ref(&offer));
    client.expect(call(), &[]);
    client.feed(Input::Accept { relay: at(0), from: FRIEND });
    client.feed(opened(1));
    client.expect(call(), &[]);
    client.expect(says(1, FromRelay::Ready), &[offer.clone(), tunnel(1, 0, Direction::Accepted)]);
    client.expect(Input::Accept { relay: at(0), from: FRIEND }, &[connect(2, 0)]);
    client.expect(opened(2), &[send(2, ToRelay::Accept { from: FRIEND })]);
    client.expect(failed(2, FailReason::NoSuchConnection), &[close(2)]);
}

#[test]
fn too_many_calls_at_once_are_rejected_as_busy() {
    let mut client = Client::listening();
    for n in 0..MAX_CALLS {
        let mut from = [7; 32];
        from[..8].copy_from_slice(&n.to_be_bytes());
        assert_eq!(client.feed(says(0, FromRelay::Incoming { from: PublicKey(from) })).len(), 1);
    }
    let busy = send(0, ToRelay::Reject { from: STRANGER, reason: RejectReason::Busy });
    client.expect(says(0, FromRelay::Incoming { from: STRANGER }), &[busy]);
}

#[test]
fn a_lost_listener_comes_back_with_growing_waits_and_at_once_when_the_network_returns() {
    let mut client = Client::listening();
    let down = |reason| Output::RelayDown { relay: at(0), reason };
    client.expect(closed(0), &[down(None)]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(1, 0)]);
    client.expect(closed(1), &[down(None)]);
    client.expect_alarm(HALF_SECOND, Duration::from_secs(1), &[connect(2, 0)]);
    client.feed(opened(2));
    let busy = FailReason::Replaced;
    client.expect(failed(2, busy), &[close(2), down(Some(busy))]);
    client.expect_alarm(Duration::from_secs(1), Duration::from_secs(2), &[connect(3, 0)]);
    client.feed(opened(3));
    client.expect(says(3, FromRelay::Closing), &[close(3), down(Some(FailReason::Closing))]);

    client.expect(Input::NetworkReturned, &[connect(4, 0)]);
    client.feed(opened(4));
    client.feed(says(4, FromRelay::Listening { share: SHARE }));
    client.expect(Input::NetworkReturned, &[close(4), down(None), connect(5, 0)]);
    // A relay that says nothing is given up.
    let timeout = FailReason::Timeout;
    client.expect_alarm(CONNECT_DEADLINE, CONNECT_DEADLINE, &[close(5), down(Some(timeout))]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(6, 0)]);
    client.expect(Input::RemoveRelay { relay: at(0) }, &[close(6)]);
    assert!(client.machine.is_idle());
}

#[test]
fn a_listener_that_was_lost_after_a_long_time_comes_back_at_some_moment_of_some_seconds() {
    let mut client = Client::listening();
    client.now += STABLE_AFTER;
    client.expect(closed(0), &[Output::RelayDown { relay: at(0), reason: None }]);
    let first = client.machine.poll_timeout().unwrap().at.since(client.now);
    client.expect_alarm(Duration::from_micros(0), LISTENER_SPREAD, &[connect(1, 0)]);
    assert!(first > HALF_SECOND, "of this seed: {} ms", first.as_millis());
    client.expect(closed(1), &[Output::RelayDown { relay: at(0), reason: None }]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(2, 0)]);
    // Its own network changed: that is no reason to wait.
    client.feed(opened(2));
    client.feed(says(2, FromRelay::Listening { share: SHARE }));
    client.now += STABLE_AFTER;
    client.feed(closed(2));
    client.expect(Input::NetworkReturned, &[connect(3, 0)]);
}

#[test]
fn a_relay_that_talks_nonsense_is_left() {
    let mut client = Client::listening();
    let down = Output::RelayDown { relay: at(0), reason: None };
    let nonsense = Input::Net(NetEvent::Message { conn: conn(0), bytes: vec![0xff; 3] });
    client.expect(nonsense, &[close(0), down]);
    client.feed(dial(&[1]));
    client.feed(opened(1));
    client.expect(says(1, FromRelay::Incoming { from: FRIEND }), &[close(1)]);
}

#[test]
fn a_relay_with_a_new_address_starts_afresh_and_a_known_one_stays() {
    let mut client = Client::listening();
    client.expect(Input::AddRelay(relay(0)), &[]);
    let moved = RelayAddress { address: "elsewhere:1".parse().unwrap(), ..relay(0) };
    let outputs = client.feed(Input::AddRelay(moved));
    assert_eq!(outputs[..2], [close(0), Output::RelayDown { relay: at(0), reason: None }]);
    assert_eq!(outputs.len(), 3);
}

#[test]
fn a_race_starts_relays_one_after_the_other_and_the_first_tunnel_wins() {
    let mut client = Client::new();
    let stagger = HEAD_START;
    client.expect(dial(&[0, 1, 2, 3]), &[connect(0, 0)]);
    client.expect_alarm(stagger, stagger, &[connect(1, 1)]);
    client.expect_alarm(stagger, stagger, &[connect(2, 2)]);
    client.expect(opened(1), &[send(1, ToRelay::Connect { to: FRIEND })]);
    // The fourth takes the place of the first that fails, at once.
    client.expect(closed(0), &[connect(3, 3)]);
    client.expect(says(1, FromRelay::Ready), &[close(2), close(3), tunnel(1, 1, Direction::Dialled)]);
    assert_eq!(client.machine.poll_timeout(), None);

    // The one that worked, and long, has the head start next time.
    client.now += STABLE_AFTER;
    client.expect(closed(1), &[Output::TunnelClosed { conn: conn(1), friend: FRIEND }]);
    client.expect_alarm(Duration::from_micros(0), TUNNEL_SPREAD, &[connect(4, 1)]);
    client.expect(closed(4), &[connect(5, 0)]);
}

#[test]
fn rounds_that_fail_grow_apart_and_stop_when_told() {
    let mut client = Client::new();
    client.expect(dial(&[0]), &[connect(0, 0)]);
    for (n, full_ms) in (0..).zip([500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
        client.feed(opened(n));
        client.expect(failed(n, FailReason::NotListening), &[close(n)]);
        let (low, high) = (Duration::from_millis(full_ms / 2), Duration::from_millis(full_ms));
        client.expect_alarm(low, high, &[connect(n + 1, 0)]);
    }
    client.expect(Input::StopDialling { friend: FRIEND }, &[close(9)]);
    assert!(client.machine.is_idle());
    client.expect(closed(9), &[]);
}

#[test]
fn a_relay_whose_tunnels_end_young_is_tried_last_and_alone() {
    let mut client = Client::new();
    client.feed(dial(&[0, 1]));
    client.feed(opened(0));
    client.expect(says(0, FromRelay::Ready), &[tunnel(0, 0, Direction::Dialled)]);
    let gone = Output::TunnelClosed { conn: conn(0), friend: FRIEND };
    client.expect(Input::CloseTunnel { conn: conn(0) }, &[close(0), gone]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(1, 1)]);
    // Nothing of the other one until this one has failed.
    client.expect_alarm(CONNECT_DEADLINE, CONNECT_DEADLINE, &[close(1), connect(2, 0)]);
}

/// Found by the swarm (seed 17279): both had ended young, and the one that breaks every tunnel came first in the list.
#[test]
fn of_relays_whose_tunnels_ended_young_the_one_that_did_so_last_is_tried_last() {
    let mut client = Client::new();
    client.feed(dial(&[0, 1]));
    for (n, relay) in [0, 1, 0, 1].into_iter().enumerate() {
        let n = n as u64;
        client.feed(opened(n));
        client.expect(says(n, FromRelay::Ready), &[tunnel(n, relay, Direction::Dialled)]);
        client.feed(Input::CloseTunnel { conn: conn(n) });
        client.expect_alarm(Duration::ZERO, Duration::from_secs(60), &[connect(n + 1, 1 - relay)]);
    }
}

#[test]
fn a_stop_keeps_the_tunnel_and_the_rest_that_is_due() {
    let mut client = Client::new();
    client.feed(dial(&[0, 1]));
    client.feed(opened(0));
    client.feed(says(0, FromRelay::Ready));
    client.expect(Input::StopDialling { friend: FRIEND }, &[]);
    client.feed(closed(0));
    assert!(client.machine.is_idle());
    client.expect(dial(&[0, 1]), &[]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(1, 1)]);
    client.expect(Input::Forget { friend: FRIEND }, &[close(1)]);
    client.expect(dial(&[0, 1]), &[connect(2, 0)]);
}

#[test]
fn fresh_addresses_are_tried_at_once_and_the_same_ones_are_no_news() {
    let mut client = Client::new();
    client.expect(dial(&[]), &[]);
    assert!(client.machine.is_idle());
    client.expect(dial(&[0]), &[connect(0, 0)]);
    client.expect(dial(&[0]), &[]);
    client.expect(closed(0), &[]);
    client.expect(dial(&[0]), &[]);
    client.expect(dial(&[0, 1, 1]), &[connect(1, 0)]);
    client.expect_alarm(HEAD_START, HEAD_START, &[connect(2, 1)]);
    client.expect(Input::NetworkReturned, &[close(1), close(2), connect(3, 0)]);
}

#[test]
fn attempts_over_all_friends_are_bounded_and_the_others_follow_in_order() {
    let mut client = Client::new();
    let friend = |n: usize| {
        let mut key = [9; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    };
    let mut attempts = 0;
    for n in 0..MAX_ATTEMPTS + 2 {
        attempts += client.feed(Input::Dial { friend: friend(n), relays: vec![relay(0)] }).len();
    }
    assert_eq!(attempts, MAX_ATTEMPTS);
    let next = MAX_ATTEMPTS as u64;
    client.expect(closed(0), &[connect(next, 0)]);
    client.expect(opened(next), &[send(next, ToRelay::Connect { to: friend(MAX_ATTEMPTS) })]);
    client.expect(Input::StopDialling { friend: friend(MAX_ATTEMPTS + 1) }, &[]);
    client.expect(closed(1), &[]);
}

#[test]
fn nobody_connects_to_a_client() {
    let mut client = Client::new();
    let conn = ConnId::incoming(1);
    let from = "host".parse().unwrap();
    let event = NetEvent::Incoming { conn, purpose: Purpose::NodeRelay, peer: FRIEND, from };
    client.expect(Input::Net(event), &[Output::Net(NetCommand::Close { conn })]);
}

#[test]
fn no_more_calls_wait_at_a_relay_than_it_takes() {
    let mut client = Client::listening();
    let friend = |n: u8| PublicKey([50 + n; 32]);
    let dial = |n: u8, relays: &[u8]| Input::Dial {
        friend: friend(n),
        relays: relays.iter().map(|&relay_number| relay(relay_number)).collect(),
    };
    client.expect(dial(0, &[0]), &[connect(1, 0)]);
    client.expect(dial(1, &[0]), &[connect(2, 0)]);
    // A third call would drive out the first: another relay of the friend is tried, or the friend rests.
    client.expect(dial(2, &[0, 1]), &[connect(3, 1)]);
    client.expect(dial(3, &[0]), &[]);
    client.expect(Input::StopDialling { friend: friend(0) }, &[close(1)]);
    client.expect_alarm(Duration::from_millis(250), HALF_SECOND, &[connect(4, 0)]);
    // What a relay said is forgotten with it.
    client.feed(Input::RemoveRelay { relay: at(0) });
    client.expect(dial(4, &[0]), &[connect(5, 0)]);
}

#[test]
fn a_relay_that_says_the_wrong_yes_is_left() {
    let mut client = Client::new();
    client.feed(Input::AddRelay(relay(0)));
    client.feed(opened(0));
    let down = Output::RelayDown { relay: at(0), reason: None };
    client.expect(says(0, FromRelay::Ready), &[close(0), down]);
    let mut client = Client::new();
    client.feed(dial(&[0]));
    client.feed(opened(0));
    client.expect(says(0, FromRelay::Listening { share: SHARE }), &[close(0)]);
}
