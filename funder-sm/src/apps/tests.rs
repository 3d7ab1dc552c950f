use std::collections::BTreeMap;

use offset_protocol::app::{Answer, Name, Permission, RelayReport};
use offset_protocol::codec::List;
use offset_protocol::limits::MAX_CURRENCIES;
use offset_protocol::machine::turn;
use offset_protocol::relay::RelayAddress;
use proptest::prelude::*;

use super::*;

const ALICE: PublicKey = PublicKey([1; 32]);
const BOB: PublicKey = PublicKey([2; 32]);
const STRANGER: PublicKey = PublicKey([9; 32]);
const DONE: Outcome = Outcome::Done(Answer::Done);

fn conn(n: u64) -> ConnId {
    ConnId::incoming(n)
}

fn id(n: u8) -> CommandId {
    CommandId([n; 16])
}

fn outputs(apps: &mut Apps, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
    let mut outputs = Vec::new();
    turn(apps, Instant::ZERO, inputs, |output| outputs.push(output));
    outputs
}

/// A turn, and those of all alarms after it.
fn outputs_in_time(apps: &mut Apps, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
    let mut all = outputs(apps, inputs);
    while let Some(Alarm { at, .. }) = apps.poll_timeout() {
        let mut burst = Vec::new();
        turn(apps, at, [Input::Tick], |output| burst.push(output));
        assert!(!burst.is_empty() && apps.poll_timeout().is_none_or(|alarm| alarm.at > at));
        all.extend(burst);
    }
    all
}

/// Alice may do everything, Bob nothing but look.
fn apps() -> Apps {
    let mut apps = Apps::new();
    let trust = [(ALICE, Permissions::ALL), (BOB, Permissions::default())];
    assert_eq!(outputs(&mut apps, trust.map(|(app, permissions)| Input::Trust { app, permissions })), []);
    apps
}

fn incoming(n: u64, peer: PublicKey) -> Input {
    let from = Text::new("10.0.0.1").unwrap();
    Input::Net(NetEvent::Incoming { conn: conn(n), purpose: Purpose::AppNode, peer, from })
}

fn says(n: u64, message: &AppMessage) -> Input {
    Input::Net(NetEvent::Message { conn: conn(n), bytes: encode(message) })
}

fn command(n: u64, number: u8, command: Command) -> Input {
    says(n, &AppMessage::Command { id: id(number), command })
}

/// A command that needs a permission, and one that needs none.
fn add_relay() -> Command {
    Command::RemoveRelay { name: Name::new("home").unwrap() }
}

fn evidence() -> Command {
    Command::LastEvidence { name: Name::new("bob").unwrap() }
}

fn relay(n: u8, connected: bool) -> ReportChange {
    let relay = RelayAddress { public_key: PublicKey([n; 32]), address: Text::new("relay:1").unwrap() };
    ReportChange::Relay(RelayReport { relay, name: Name::new("relay").unwrap(), connected })
}

fn snapshot(session: u64, report: Vec<ReportChange>) -> Input {
    Input::Snapshot { session: SessionId(session), report, events: Vec::new() }
}

/// What a connection was told, in order.
fn told(outputs: &[Output], n: u64) -> Vec<NodeMessage> {
    let sent = |output: &Output| match output {
        Output::Net(NetCommand::Send { conn: to, bytes }) if *to == conn(n) => {
            assert!(bytes.len() <= MAX_FRAME);
            Some(decode(bytes, MAX_FRAME).unwrap())
        }
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

fn closed(n: u64) -> Output {
    Output::Net(NetCommand::Close { conn: conn(n) })
}

/// What an app makes of the reports that it is told.
#[derive(Default, Debug, PartialEq, Clone)]
struct Mirror {
    relays: BTreeMap<PublicKey, RelayReport>,
    next: u64,
    complete: bool,
}

impl Mirror {
    fn hear(&mut self, messages: &[NodeMessage]) {
        for message in messages {
            let NodeMessage::Report { number, changes, complete } = message else { continue };
            assert_eq!(*number, self.next, "reports are numbered without a gap");
            self.next += 1;
            self.complete |= complete;
            changes.iter().for_each(|change| self.apply(change));
        }
    }

    fn apply(&mut self, change: &ReportChange) {
        match change {
            ReportChange::Relay(report) => drop(self.relays.insert(report.relay.public_key, report.clone())),
            ReportChange::RelayRemoved(key) => drop(self.relays.remove(key)),
            _ => panic!("these tests speak of relays only"),
        }
    }
}

fn live(apps: &mut Apps, n: u64, session: u64, app: PublicKey) {
    outputs(apps, [incoming(n, app), snapshot(session, Vec::new())]);
}

#[test]
fn a_registered_app_is_greeted_and_gets_the_report_and_its_kept_events() {
    let mut apps = apps();
    let out = outputs(&mut apps, [incoming(1, BOB)]);
    assert_eq!(out[0], Output::Net(NetCommand::Admit { conn: conn(1) }));
    let version = Text::new(VERSION).unwrap();
    assert_eq!(told(&out, 1), [NodeMessage::Hello { permissions: Permissions::default(), version }]);
    assert_eq!(out[2..], [Output::Snapshot { session: SessionId(0), app: BOB }]);

    let event = Event::PaymentReady { payment_id: offset_protocol::bytes::PaymentId([1; 16]), fees: 3 };
    let events = vec![KeptEvent { id: id(7), number: 4, event: event.clone() }];
    let report = vec![relay(1, true)];
    let out = outputs(&mut apps, [Input::Snapshot { session: SessionId(0), report: report.clone(), events }]);
    let changes = List::try_from(report).unwrap();
    assert_eq!(
        told(&out, 1),
        [
            NodeMessage::Report { number: 0, changes, complete: true },
            NodeMessage::Event { id: id(7), number: Some(4), event },
        ]
    );
    assert_eq!(out.len(), 2);
}

#[test]
fn an_empty_report_is_complete_at_once() {
    let mut apps = apps();
    let out = outputs(&mut apps, [incoming(1, BOB), snapshot(0, Vec::new())]);
    assert_eq!(told(&out, 1)[1..], [NodeMessage::Report { number: 0, changes: List::new(), complete: true }]);
}

#[test]
fn a_stranger_and_another_purpose_are_closed() {
    let mut apps = apps();
    assert_eq!(outputs(&mut apps, [incoming(1, STRANGER)]), [closed(1)]);
    let from = Text::new("10.0.0.1").unwrap();
    let wrong = NetEvent::Incoming { conn: conn(2), purpose: Purpose::Friend, peer: ALICE, from };
    assert_eq!(outputs(&mut apps, [Input::Net(wrong)]), [closed(2)]);
}

#[test]
fn a_command_without_permission_is_refused_and_never_reaches_the_funder() {
    let mut apps = apps();
    live(&mut apps, 1, 0, BOB);
    let out = outputs(&mut apps, [command(1, 1, add_relay())]);
    let outcome = Outcome::Refused(Refusal::NotPermitted(Permission::Config));
    assert_eq!(told(&out, 1), [NodeMessage::Reply { id: id(1), outcome }]);
    assert_eq!(out.len(), 1);
    let out = outputs(&mut apps, [command(1, 2, evidence())]);
    assert_eq!(out, [Output::Command { app: BOB, id: id(2), command: evidence() }]);
}

#[test]
fn a_reply_goes_to_the_session_that_asked_and_only_once() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    live(&mut apps, 2, 1, ALICE);
    outputs(&mut apps, [command(2, 1, add_relay())]);
    let reply = Input::Reply { app: ALICE, id: id(1), outcome: DONE };
    let out = outputs(&mut apps, [reply.clone()]);
    assert_eq!(told(&out, 2), [NodeMessage::Reply { id: id(1), outcome: DONE }]);
    assert_eq!(out.len(), 1);
    assert_eq!(outputs(&mut apps, [reply]), []);
}

#[test]
fn a_command_repeated_under_way_is_done_once_and_answered_in_the_newest_session_that_asked() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    assert_eq!(outputs(&mut apps, [command(1, 1, add_relay()), command(1, 1, add_relay())]).len(), 1);
    // The app lost its connection, comes back and asks again.
    outputs(&mut apps, [Input::Net(NetEvent::Closed { conn: conn(1) })]);
    live(&mut apps, 2, 1, ALICE);
    assert_eq!(outputs(&mut apps, [command(2, 1, add_relay())]), []);
    let out = outputs(&mut apps, [Input::Reply { app: ALICE, id: id(1), outcome: DONE }]);
    assert_eq!(told(&out, 2), [NodeMessage::Reply { id: id(1), outcome: DONE }]);
}

/// Found by the simulator (swarm, seed 9377): the command that the app had sent before its connection broke arrived behind the
/// one that it sent again on a new connection. The reply went to the broken one, and the app waited for ever.
#[test]
fn a_command_that_comes_late_in_an_old_session_does_not_take_the_reply_from_the_new_one() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    live(&mut apps, 2, 1, ALICE);
    outputs(&mut apps, [command(2, 1, add_relay()), command(1, 1, add_relay())]);
    let out = outputs(&mut apps, [Input::Reply { app: ALICE, id: id(1), outcome: DONE }]);
    assert_eq!((told(&out, 2).len(), told(&out, 1).len()), (1, 0));
}

#[test]
fn a_reply_for_a_session_that_is_gone_is_dropped() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    outputs(&mut apps, [command(1, 1, add_relay()), Input::Net(NetEvent::Closed { conn: conn(1) })]);
    assert_eq!(outputs(&mut apps, [Input::Reply { app: ALICE, id: id(1), outcome: DONE }]), []);
}

#[test]
fn too_many_commands_under_way_are_refused_and_room_comes_back_with_replies() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    let nth = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        CommandId(id)
    };
    let ask = |n| says(1, &AppMessage::Command { id: nth(n), command: add_relay() });
    assert_eq!(outputs(&mut apps, (0..MAX_COMMANDS).map(ask)).len(), MAX_COMMANDS);
    let out = outputs(&mut apps, [ask(MAX_COMMANDS)]);
    let busy = NodeMessage::Reply { id: nth(MAX_COMMANDS), outcome: Outcome::Refused(Refusal::Busy) };
    assert_eq!(told(&out, 1), [busy]);
    outputs(&mut apps, [Input::Reply { app: ALICE, id: nth(0), outcome: DONE }]);
    assert_eq!(outputs(&mut apps, [ask(MAX_COMMANDS)]).len(), 1);
}

#[test]
fn events_go_to_every_live_session_of_the_app_and_to_nobody_else() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    live(&mut apps, 2, 1, ALICE);
    live(&mut apps, 3, 2, BOB);
    // Not live yet: its snapshot will bring the event.
    outputs(&mut apps, [incoming(4, ALICE)]);
    let event = Event::PaymentReady { payment_id: offset_protocol::bytes::PaymentId([1; 16]), fees: 3 };
    let out = outputs(&mut apps, [Input::Event { app: ALICE, id: id(1), number: Some(1), event: event.clone() }]);
    let expected = [NodeMessage::Event { id: id(1), number: Some(1), event }];
    assert_eq!(told(&out, 1), expected);
    assert_eq!(told(&out, 2), expected);
    assert_eq!(out.len(), 2);
    let acknowledge = says(3, &AppMessage::Acknowledge { id: id(1), number: 1 });
    assert_eq!(outputs(&mut apps, [acknowledge]), [Output::Acknowledge { app: BOB, id: id(1), number: 1 }]);
}

#[test]
fn distrust_and_changed_permissions_close_every_session_and_the_same_permissions_none() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    live(&mut apps, 2, 1, ALICE);
    live(&mut apps, 3, 2, BOB);
    assert_eq!(outputs(&mut apps, [Input::Trust { app: ALICE, permissions: Permissions::ALL }]), []);
    let less = Permissions { config: false, ..Permissions::ALL };
    assert_eq!(outputs(&mut apps, [Input::Trust { app: ALICE, permissions: less }]), [closed(1), closed(2)]);
    assert_eq!(outputs(&mut apps, [Input::Distrust { app: BOB }]), [closed(3)]);
    assert_eq!(outputs(&mut apps, [command(3, 1, evidence()), incoming(4, BOB)]), [closed(4)]);
    assert!(apps.sessions.is_empty() && apps.by_conn.is_empty() && apps.live.is_empty());
}

#[test]
fn bytes_that_are_no_message_close_the_session() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    let garbage = Input::Net(NetEvent::Message { conn: conn(1), bytes: vec![0xff] });
    assert_eq!(outputs(&mut apps, [garbage]), [closed(1)]);
}

#[test]
fn an_app_at_its_limit_of_sessions_loses_its_oldest() {
    let mut apps = apps();
    let limit = MAX_APP_SESSIONS as u64;
    outputs(&mut apps, (0..limit).map(|n| incoming(n, ALICE)));
    let out = outputs(&mut apps, [incoming(limit, ALICE)]);
    assert_eq!(out[..2], [closed(0), Output::Net(NetCommand::Admit { conn: conn(limit) })]);
    assert_eq!(apps.sessions.len(), MAX_APP_SESSIONS);
}

#[test]
fn all_sessions_together_are_bounded_and_no_app_loses_one_to_another() {
    let mut apps = Apps::new();
    let key = |n: usize| PublicKey([n as u8 + 1; 32]);
    let full = MAX_SESSIONS / MAX_APP_SESSIONS;
    let trust = (0..=full).map(|n| Input::Trust { app: key(n), permissions: Permissions::ALL });
    outputs(&mut apps, trust);
    let mut conns = 0..;
    for n in 0..full {
        outputs(&mut apps, conns.by_ref().take(MAX_APP_SESSIONS).map(|conn| incoming(conn, key(n))));
    }
    assert_eq!(apps.sessions.len(), MAX_SESSIONS);
    assert_eq!(outputs(&mut apps, [incoming(9_999, key(full))]), [closed(9_999)]);
    assert_eq!(apps.sessions.len(), MAX_SESSIONS);
}

#[test]
fn a_reply_never_comes_before_the_report_that_it_speaks_of() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    outputs(&mut apps, [command(1, 1, add_relay())]);
    let reply = Input::Reply { app: ALICE, id: id(1), outcome: DONE };
    let out = outputs(&mut apps, [reply, Input::Report(relay(1, false)), Input::Report(relay(1, true))]);
    let [NodeMessage::Report { number: 1, changes, complete: true }, NodeMessage::Reply { .. }] = &told(&out, 1)[..]
    else {
        panic!("expected one report, then the reply: {out:?}");
    };
    assert_eq!(changes[..], [relay(1, true)], "of two changes of one relay the last is told");
}

#[test]
fn a_change_before_the_snapshot_is_not_told_again_and_one_after_it_is() {
    let mut apps = apps();
    live(&mut apps, 1, 0, ALICE);
    let before = relay(1, false);
    let inputs =
        [incoming(2, BOB), Input::Report(before.clone()), snapshot(1, vec![before]), Input::Report(relay(2, true))];
    let out = outputs(&mut apps, inputs);
    let reports = |n| {
        let changes = |message| match message {
            NodeMessage::Report { changes, .. } => Some(changes.into_vec()),
            _ => None,
        };
        told(&out, n).into_iter().filter_map(changes).collect::<Vec<_>>()
    };
    assert_eq!(reports(1), [[relay(1, false)], [relay(2, true)]]);
    assert_eq!(reports(2), [[relay(1, false)], [relay(2, true)]]);
}

#[test]
fn the_longest_report_is_cut_into_messages_that_fit() {
    use offset_protocol::app::{ChannelReport, CurrencyReport, FriendReport};
    use offset_protocol::money::{Currency, Rate};
    let text = |n: usize, length: usize| "x".repeat(length - 3) + &format!("{n:03}");
    let relays =
        (0..16).map(|n| RelayAddress { public_key: PublicKey([255; 32]), address: Text::new(&text(n, 262)).unwrap() });
    let currency = |n| CurrencyReport {
        currency: text(n, 16).parse::<Currency>().unwrap(),
        balance: i128::MIN,
        out_frozen: u128::MAX,
        in_frozen: u128::MAX,
        max_debt: u128::MAX,
        rate: Rate { mul: u32::MAX, add: u32::MAX },
        is_open: true,
        listed: true,
        friend_listed: true,
    };
    let friend = |n: u16| {
        let mut key = [255; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        ReportChange::Friend(FriendReport {
            public_key: PublicKey(key),
            name: Name::new(&text(usize::from(n), 64)).unwrap(),
            enabled: true,
            online: true,
            relays: List::truncated(relays.clone()),
            currencies: List::truncated((0..MAX_CURRENCIES).map(currency)),
            channel: ChannelReport::Consistent { epoch: u64::MAX },
        })
    };
    let mut apps = apps();
    let out = outputs_in_time(&mut apps, [incoming(1, BOB), snapshot(0, (0..300).map(friend).collect())]);
    let mut got = Vec::new();
    let messages = told(&out, 1);
    for (n, message) in messages[1..].iter().enumerate() {
        let NodeMessage::Report { number, changes, complete } = message else { panic!("{message:?}") };
        assert_eq!((*number, *complete), (n as u64, n == messages.len() - 2));
        got.extend(changes.iter().cloned());
    }
    assert_eq!(got, (0..300).map(friend).collect::<Vec<_>>());
}

#[test]
fn thousands_of_kept_events_leave_in_bursts_and_nothing_overtakes_them() {
    let mut apps = apps();
    let event = |n: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let event = Event::PaymentReady { payment_id: offset_protocol::bytes::PaymentId(id), fees: 0 };
        KeptEvent { id: CommandId(id), number: n, event }
    };
    let events = (0..4_096).map(event).collect();
    let mut out = outputs(&mut apps, [incoming(1, ALICE)]);
    out.extend(outputs(&mut apps, [Input::Snapshot { session: SessionId(0), report: Vec::new(), events }]));
    assert!(out.len() < 1_000, "{} at once", out.len());
    let KeptEvent { id, number, event } = event(9_999);
    let later = [Input::Report(relay(1, true)), Input::Event { app: ALICE, id, number: Some(number), event }];
    out.extend(outputs_in_time(&mut apps, later));
    let told = told(&out, 1);
    assert_eq!(told.len(), 1 + 1 + 4_096 + 1 + 1);
    let numbers = told.iter().filter_map(|message| match message {
        NodeMessage::Event { number, .. } => *number,
        _ => None,
    });
    assert!(numbers.eq((0..4_096).chain([9_999])));
    assert!(matches!(told[told.len() - 2], NodeMessage::Report { number: 1, .. }));
    assert_eq!(apps.poll_timeout(), None);
    assert_eq!(outputs(&mut apps, [Input::Report(relay(2, true))]).len(), 1, "told at once from now on");
}

#[test]
fn a_session_that_closes_in_the_middle_of_its_report_leaves_nothing_behind() {
    let mut apps = apps();
    let report = (0..=255).flat_map(|n| std::iter::repeat_n(relay(n, true), 300)).collect();
    outputs(&mut apps, [incoming(1, ALICE), snapshot(0, report)]);
    assert!(apps.poll_timeout().is_some());
    assert_eq!(outputs(&mut apps, [Input::Net(NetEvent::Closed { conn: conn(1) })]), []);
    assert_eq!(apps.poll_timeout(), None);
}

/// One step of a history: changes of the report, sessions that come, snapshots that are answered later.
#[derive(Clone, Debug)]
enum Step {
    Change(u8, Option<bool>),
    Connect,
    Answer,
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u8..4, proptest::option::of(any::<bool>())).prop_map(|(n, state)| Step::Change(n, state));
    proptest::collection::vec(
        prop_oneof![4 => change, 1 => Just(Step::Connect), 1 => Just(Step::Answer), 2 => Just(Step::Turn)],
        0..60,
    )
}

proptest! {
    #[test]
    fn a_report_rebuilt_from_changes_equals_the_funders(steps in steps()) {
        let mut apps = apps();
        let mut truth = Mirror::default();
        let (mut mirrors, mut asked, mut inputs) = (BTreeMap::<u64, Mirror>::new(), 0, Vec::new());
        let mut answered = 0;
        for step in steps.into_iter().chain([Step::Answer, Step::Turn]) {
            match step {
                Step::Change(n, state) => {
                    let key = PublicKey([n; 32]);
                    let change = state.map_or(ReportChange::RelayRemoved(key), |connected| relay(n, connected));
                    truth.apply(&change);
                    inputs.push(Input::Report(change));
                }
                Step::Connect if asked < MAX_APP_SESSIONS as u64 => {
                    inputs.push(incoming(asked, ALICE));
                    asked += 1;
                }
                Step::Answer => {
                    for session in answered..asked {
                        let report = truth.relays.values().cloned().map(ReportChange::Relay).collect();
                        inputs.push(snapshot(session, report));
                    }
                    answered = asked;
                }
                Step::Turn => {
                    let out = outputs(&mut apps, std::mem::take(&mut inputs));
                    for n in 0..asked {
                        mirrors.entry(n).or_default().hear(&told(&out, n));
                    }
                    for n in 0..answered {
                        prop_assert!(mirrors[&n].complete);
                        prop_assert_eq!(&mirrors[&n].relays, &truth.relays);
                    }
                }
                Step::Connect => {}
            }
        }
    }

    #[test]
    fn nothing_that_an_app_says_panics(messages in proptest::collection::vec((0u64..3, proptest::collection::vec(any::<u8>(), 0..60)), 0..30)) {
        let mut apps = apps();
        outputs(&mut apps, (0..3).map(|n| incoming(n, ALICE)));
        outputs(&mut apps, messages.into_iter().map(|(n, bytes)| Input::Net(NetEvent::Message { conn: conn(n), bytes })));
    }
}
