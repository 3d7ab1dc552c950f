mod network;

use offset_protocol::app::{
    Answer, AppMessage, Command, CommitMode, Event as AppEvent, InvoiceReport, InvoiceState, Name, NodeMessage,
    Outcome, PaymentReport, PaymentState, Permission, Permissions, Refusal,
};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, ResetToken, Signature};
use offset_protocol::codec::{Blob, List, Text, decode, encode};
use offset_protocol::friend::{Batch, FriendMessage, ResetTerms};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Duration, Seed, turn};
use offset_protocol::net::{ConnId, NetCommand, Purpose};
use offset_protocol::payment::{Description, Invoice};
use proptest::prelude::*;

use super::*;
use crate::testnet::{HostId, World};
use network::*;

fn invoice(world: &mut World<TestHost>, seller: HostId, number: u8, amount: u128) -> (CommandId, Invoice) {
    let command = Command::AddInvoice {
        invoice_id: InvoiceId([number; 16]),
        currency: euro(),
        amount,
        description: Description::new("a coffee").unwrap(),
        expires_at: None,
    };
    match world.done(seller, command) {
        (id, Answer::Invoice(invoice)) => (id, invoice),
        (_, other) => panic!("not an invoice: {other:?}"),
    }
}

fn pay(world: &mut World<TestHost>, buyer: HostId, number: u8, invoice: &Invoice, mode: CommitMode) -> CommandId {
    let command = Command::Pay {
        payment_id: PaymentId([number; 16]),
        invoice: invoice.clone(),
        max_fee: 100,
        mode,
        routes: None,
    };
    world.done(buyer, command).0
}

/// Waits until a payment has ended on both sides: paid.
fn assert_paid(
    world: &mut World<TestHost>,
    (buyer, payment): (HostId, CommandId),
    (seller, invoice): (HostId, CommandId),
) {
    let (event, _) = world.event(buyer, payment, |event| matches!(event, AppEvent::PaymentEnded(_)));
    assert!(
        matches!(&event, AppEvent::PaymentEnded(PaymentReport { state: PaymentState::Paid { .. }, .. })),
        "not paid: {event:?}"
    );
    let (event, _) = world.event(seller, invoice, |event| matches!(event, AppEvent::InvoiceEnded(_)));
    assert!(matches!(event, AppEvent::InvoiceEnded(InvoiceReport { state: InvoiceState::Paid, .. })));
}

/// What each node of a line is owed by its left and by its right neighbour.
fn balances(world: &mut World<TestHost>, nodes: &[HostId]) -> Vec<(i128, i128)> {
    world.run(Duration::from_secs(1));
    nodes.windows(2).map(|pair| (world.app(pair[0]).balance(pair[1]), world.app(pair[1]).balance(pair[0]))).collect()
}

#[test]
fn three_nodes_in_a_line_pay_by_hand_and_in_band() {
    let (mut world, nodes) = line(3);
    let (buyer, seller) = (nodes[0], nodes[2]);

    let (sold, bill) = invoice(&mut world, seller, 1, 30);
    let paid = pay(&mut world, buyer, 1, &bill, CommitMode::ByHand);
    world.event(buyer, paid, |event| matches!(event, AppEvent::PaymentReady { fees: 0, .. }));
    let (_, Answer::Commit(commit)) = world.done(buyer, Command::ReleaseCommit { payment_id: PaymentId([1; 16]) })
    else {
        panic!("no commit")
    };
    assert_eq!(balances(&mut world, &nodes), [(0, 0), (0, 0)], "nothing moves before the seller has the commit");
    world.done(seller, Command::CommitInvoice { commit });
    assert_paid(&mut world, (buyer, paid), (seller, sold));
    assert_eq!(balances(&mut world, &nodes), [(-30, 30), (-30, 30)]);

    let (sold, bill) = invoice(&mut world, seller, 2, 12);
    let paid = pay(&mut world, buyer, 2, &bill, CommitMode::InBand);
    assert_paid(&mut world, (buyer, paid), (seller, sold));
    assert_eq!(balances(&mut world, &nodes), [(-42, 42), (-42, 42)]);
}

#[test]
fn every_node_of_the_line_comes_back_from_its_records_and_the_next_payment_goes_through() {
    let (mut world, nodes) = line(3);
    for (n, &node) in nodes.iter().enumerate() {
        let number = n as u8 + 1;
        world.restart(node, 1_000 + u64::from(number));
        assert!(world.run_until(|world| {
            nodes.windows(2).all(|pair| usable(world, pair[0], pair[1]) && usable(world, pair[1], pair[0]))
        }));
        // The index server hears of the links again.
        world.run(Duration::from_secs(5));
        let (sold, bill) = invoice(&mut world, nodes[2], number, 10);
        let paid = pay(&mut world, nodes[0], number, &bill, CommitMode::InBand);
        assert_paid(&mut world, (nodes[0], paid), (nodes[2], sold));
    }
    assert_eq!(balances(&mut world, &nodes), [(-30, 30), (-30, 30)]);
}

#[test]
fn a_kept_event_is_told_again_to_a_new_session_until_it_is_acknowledged() {
    let (mut world, nodes) = line(2);
    let (sold, bill) = invoice(&mut world, nodes[1], 1, 5);
    let paid = pay(&mut world, nodes[0], 1, &bill, CommitMode::InBand);
    assert_paid(&mut world, (nodes[0], paid), (nodes[1], sold));
    let ended = |event: &AppEvent| matches!(event, AppEvent::PaymentEnded(_));

    world.restart(nodes[0], 500);
    world.app(nodes[0]).events.clear();
    let (_, number) = world.event(nodes[0], paid, ended);
    world.app(nodes[0]).acknowledge(paid, number.unwrap());
    world.poke(nodes[0] + APPS);
    world.run(Duration::from_secs(1));

    world.restart(nodes[0], 501);
    world.app(nodes[0]).events.clear();
    world.run(Duration::from_secs(5));
    assert!(world.app(nodes[0]).permissions.is_some());
    assert!(world.app(nodes[0]).events.iter().all(|(id, _, event)| *id != paid || !ended(event)));
}

#[test]
fn an_app_that_is_distrusted_is_disconnected_and_one_with_less_is_refused() {
    let (mut world, nodes) = line(2);
    let app = key(nodes[0] + APPS);
    let less = Permissions { config: false, ..Permissions::ALL };
    world.tell(nodes[0], NodeInput::Trust { app, permissions: less });
    world.run(Duration::from_secs(1));
    assert_eq!(world.app(nodes[0]).permissions, Some(less), "it connects again and is told");
    let rename = Command::RenameFriend { name: name(nodes[1]), new_name: Name::new("bob").unwrap() };
    let (_, outcome) = world.outcome(nodes[0], rename);
    assert_eq!(outcome, Outcome::Refused(Refusal::NotPermitted(Permission::Config)));
    world.tell(nodes[0], NodeInput::Distrust { app });
    world.run(Duration::from_millis(15));
    world.app(nodes[0]).permissions = None;
    world.run(Duration::from_secs(1));
    assert_eq!(world.app(nodes[0]).permissions, None, "it is not greeted again");
}

#[test]
fn without_an_index_server_a_payment_fails_at_once() {
    let (mut world, nodes) = line(2);
    world.done(nodes[0], Command::RemoveIndex { name: name(INDEX) });
    let (_, bill) = invoice(&mut world, nodes[1], 1, 5);
    let start = world.now;
    let pay = Command::Pay {
        payment_id: PaymentId([1; 16]),
        invoice: bill,
        max_fee: 0,
        mode: CommitMode::InBand,
        routes: None,
    };
    assert_eq!(world.outcome(nodes[0], pay).1, Outcome::Refused(Refusal::NoIndexServer));
    assert!(world.now.since(start) < Duration::from_secs(1));
}

#[test]
fn versions_of_reports_are_reserved_before_they_are_used_and_never_used_twice() {
    let (mut world, nodes) = line(2);
    let reserved = |world: &mut World<TestHost>| {
        let records: Vec<_> = world.node(nodes[0]).disk.clone().into_iter().collect();
        Reservations::restore(&records).unwrap().below()
    };
    let first = reserved(&mut world);
    assert!(first > 0);
    world.restart(nodes[0], 900);
    world.run(Duration::from_secs(5));
    assert!(reserved(&mut world) > first);
}

#[test]
fn the_same_seeds_make_the_same_history() {
    let run = || {
        let (mut world, nodes) = line(3);
        let (sold, bill) = invoice(&mut world, nodes[2], 1, 30);
        let paid = pay(&mut world, nodes[0], 1, &bill, CommitMode::InBand);
        assert_paid(&mut world, (nodes[0], paid), (nodes[2], sold));
        let disks: Vec<_> = nodes.iter().map(|node| world.node(*node).disk.clone()).collect();
        (world.now, disks)
    };
    assert_eq!(run(), run());
}

fn add_invoice(number: u8) -> Command {
    Command::AddInvoice {
        invoice_id: InvoiceId([number; 16]),
        currency: euro(),
        amount: 1,
        description: Description::new("").unwrap(),
        expires_at: None,
    }
}

#[test]
fn all_that_waits_at_a_turn_is_one_revision_and_no_reply_leaves_before_it_is_durable() {
    let mut node = lone_node();
    let conn = ConnId::incoming(1);
    let app = key(1);
    let mut revision = None;
    let mut told = Vec::new();
    let mut go = |inputs: Vec<NodeInput>| {
        let mut persisted = 0;
        turn(&mut node, Instant::ZERO, inputs, |output| match output {
            NodeOutput::Persist { revision: next, .. } => {
                persisted += 1;
                revision = Some(next);
            }
            NodeOutput::Net(NetCommand::Send { bytes, .. }) => {
                told.push(decode::<NodeMessage>(&bytes, MAX_FRAME).unwrap())
            }
            NodeOutput::Check(_) => panic!("a node without links has nothing to check"),
            NodeOutput::Net(_) | NodeOutput::Notice(_) => {}
        });
        let replies = told.drain(..).filter(|message| matches!(message, NodeMessage::Reply { .. })).count();
        (persisted, replies, revision)
    };
    let from = Text::new("10.0.0.1").unwrap();
    let begin = vec![
        NodeInput::Trust { app, permissions: Permissions::ALL },
        NodeInput::Net(NetEvent::Incoming { conn, purpose: Purpose::AppNode, peer: app, from }),
    ];
    // The new node's own record.
    let (1, 0, Some(first)) = go(begin) else { panic!("one revision") };
    assert_eq!(go(vec![NodeInput::Durable(first)]).1, 0);
    let asks = |range: std::ops::Range<u8>| -> Vec<NodeInput> {
        let message = |n| AppMessage::Command { id: CommandId([n; 16]), command: add_invoice(n) };
        range.map(|n| NodeInput::Net(NetEvent::Message { conn, bytes: encode(&message(n)) })).collect()
    };
    let (1, 0, Some(second)) = go(asks(0..64)) else { panic!("one revision, no reply") };
    assert_eq!(go(asks(64..128)), (0, 0, Some(second)), "what comes meanwhile waits");
    let (1, 64, Some(third)) = go(vec![NodeInput::Durable(second)]) else { panic!("64 replies and the next revision") };
    assert_eq!(go(vec![NodeInput::Durable(third)]), (0, 64, Some(third)));
}

/// A megabyte of what a friend says: one batch that has to be checked, and then as many messages as there is room for.
fn flood(node: &mut Node, now: Instant, friend: PublicKey) -> Vec<u8> {
    node.now = now;
    let conn = node.links.link_with(&friend).unwrap();
    let (header, body, signature) = (Blob::default(), Blob::default(), Signature([7; 64]));
    node.links
        .handle(now, links::Input::Send { friend, message: FriendMessage::Batch(Batch { header, body, signature }) });
    let terms = ResetTerms { epoch: 1, reset_token: ResetToken([7; 32]), balances: List::new() };
    let mut bytes = Vec::new();
    while bytes.len() < MAX_FRAME - 1_024 {
        node.links.handle(now, links::Input::Send { friend, message: FriendMessage::Inconsistent(terms.clone()) });
        while let Some(output) = node.links.poll_output() {
            match output {
                links::Output::Net(NetCommand::Send { conn: to, bytes: more }) if to == conn => bytes.extend(more),
                other => panic!("{other:?}"),
            }
        }
    }
    bytes
}

#[test]
fn messages_beyond_those_that_may_wait_take_no_room_on_the_stack() {
    let (mut world, nodes) = line(2);
    // The second checks aside, so that something waits.
    let (liar, victim) = (nodes[0], nodes[1]);
    let now = world.now;
    let bytes = flood(&mut world.node(liar).node, now, key(victim));
    let node = &mut world.node(victim).node;
    let conn = node.links.link_with(&key(liar)).unwrap();
    // A test has 2 MiB of stack.
    let mut commands = Vec::new();
    turn(node, now, [NodeInput::Net(NetEvent::Message { conn, bytes })], |output| commands.push(output));
    assert!(commands.iter().any(|output| matches!(output, NodeOutput::Check(_))));
    assert!(commands.contains(&NodeOutput::Net(NetCommand::Close { conn })), "{commands:?}");
    assert_eq!(node.links.link_with(&key(liar)), None);
}

fn lone_node() -> Node {
    let config = NodeConfig { signer: std::sync::Arc::new(identity(9)), seed: Seed::from_number(9) };
    Node::restore(config, Vec::new(), Instant::ZERO).unwrap()
}

#[test]
fn a_record_of_unknown_kind_is_refused() {
    let config = NodeConfig { signer: std::sync::Arc::new(identity(9)), seed: Seed::from_number(9) };
    assert!(Node::restore(config, vec![(vec![0xff], vec![])], Instant::ZERO).is_err());
    let config = NodeConfig { signer: std::sync::Arc::new(identity(9)), seed: Seed::from_number(9) };
    let bad = vec![(b"xindex-versions".to_vec(), vec![0xff])];
    assert!(matches!(Node::restore(config, bad, Instant::ZERO), Err(RestoreError::BadValue { .. })));
}

fn noise() -> impl Strategy<Value = NodeInput> {
    let conn = || prop_oneof![(0u64..6).prop_map(ConnId::outgoing), (0u64..4).prop_map(ConnId::incoming)];
    let bytes = proptest::collection::vec(any::<u8>(), 0..80);
    let purpose = prop_oneof![Just(Purpose::AppNode), Just(Purpose::Friend), Just(Purpose::NodeRelay)];
    prop_oneof![
        (conn(), bytes).prop_map(|(conn, bytes)| NodeInput::Net(NetEvent::Message { conn, bytes })),
        conn().prop_map(|conn| NodeInput::Net(NetEvent::Opened { conn })),
        conn().prop_map(|conn| NodeInput::Net(NetEvent::Closed { conn })),
        (conn(), purpose, 1u8..4).prop_map(|(conn, purpose, peer)| {
            NodeInput::Net(NetEvent::Incoming { conn, purpose, peer: key(peer), from: Text::new("a").unwrap() })
        }),
        (1u8..4).prop_map(|app| NodeInput::Trust { app: key(app), permissions: Permissions::ALL }),
        (1u8..4).prop_map(|app| NodeInput::Distrust { app: key(app) }),
        (0u64..4).prop_map(|revision| NodeInput::Durable(offset_protocol::persist::Revision(revision))),
        Just(NodeInput::NetworkReturned),
        Just(NodeInput::Tick),
    ]
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
enum Fault {
    /// The connections of a node to the relay are cut.
    Cut(usize),
    /// A node dies and comes back at once; everybody hears it.
    Restart(usize),
    /// A node dies and comes back at once; the relay keeps its dead connections for a while.
    Vanish(usize),
}

fn faults() -> impl Strategy<Value = Vec<(Fault, u64)>> {
    let fault = (0u8..3, 0usize..3).prop_map(|(kind, node)| match kind {
        0 => Fault::Cut(node),
        1 => Fault::Restart(node),
        _ => Fault::Vanish(node),
    });
    proptest::collection::vec((fault, 1u64..400), 1..6)
}

/// Asks until there is an answer: an app's connection may be lost with its command.
fn insist(world: &mut World<TestHost>, node: HostId, command: &Command) -> Outcome {
    for _ in 0..5 {
        let id = world.app(node).ask(command.clone());
        world.poke(node + APPS);
        let until = world.now + Duration::from_secs(50);
        while world.now < until && !world.app(node).replies.contains_key(&id) {
            world.run(Duration::from_millis(100));
        }
        if let Some(outcome) = world.app(node).replies.get(&id) {
            return outcome.clone();
        }
    }
    panic!("no answer to {command:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Payments under way while nodes lose their relay and die: in the end each is paid or failed, nothing is frozen, friends
    /// agree, and exactly the paid amounts have moved.
    #[test]
    fn payments_end_and_credits_are_conserved_whatever_fails_on_the_way(faults in faults()) {
        let (mut world, nodes) = line(3);
        let (buyer, seller) = (nodes[0], nodes[2]);
        let pays: Vec<Command> = (1..=4u8)
            .map(|number| Command::Pay {
                payment_id: PaymentId([number; 16]),
                invoice: invoice(&mut world, seller, number, 1 << number).1,
                max_fee: 0,
                mode: CommitMode::InBand,
                routes: None,
            })
            .collect();
        for pay in &pays {
            world.app(buyer).ask(pay.clone());
            world.poke(buyer + APPS);
            world.run(Duration::from_millis(20));
        }
        for (seed, (fault, ms)) in faults.into_iter().enumerate() {
            match fault {
                Fault::Cut(node) => world.cut(nodes[node], RELAY),
                Fault::Restart(node) => world.restart(nodes[node], 2_000 + seed as u64),
                Fault::Vanish(node) => world.restart_silently(nodes[node], 3_000 + seed as u64),
            }
            world.run(Duration::from_millis(ms));
        }
        world.run(Duration::from_secs(120));
        for pay in &pays {
            insist(&mut world, buyer, pay);
        }
        world.run(Duration::from_secs(60));
        let mut paid: i128 = 0;
        for number in 1..=4u8 {
            let status = insist(&mut world, buyer, &Command::PaymentStatus { payment_id: PaymentId([number; 16]) });
            let Outcome::Done(Answer::Payment(PaymentReport { state, .. })) = &status else { panic!("{status:?}") };
            match state {
                PaymentState::Paid { .. } => paid += 1 << number,
                PaymentState::Failed(_) => {}
                _ => prop_assert!(false, "payment {} hangs: {:?}", number, state),
            }
        }
        for pair in nodes.windows(2) {
            for (node, friend) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                let currency = world.app(node).friends[&key(friend)].currencies[0];
                prop_assert_eq!((currency.out_frozen, currency.in_frozen), (0, 0));
                prop_assert_eq!(currency.balance, if node < friend { -paid } else { paid });
            }
        }
    }
}

proptest! {
    #[test]
    fn no_input_panics(inputs in proptest::collection::vec(noise(), 0..60)) {
        let mut node = lone_node();
        let mut now = Instant::ZERO;
        for input in inputs {
            now += Duration::from_millis(700);
            turn(&mut node, now, [input], |_| {});
        }
    }
}
