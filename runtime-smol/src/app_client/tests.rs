use offset_protocol::app::{Answer, Event, InvoiceReport, InvoiceState, NodeMessage, Outcome, Refusal};
use offset_protocol::bytes::InvoiceId;
use offset_protocol::payment::Invoice;

use super::fake_node::{FakeNode, Reaction, reply};
use super::*;
use crate::entropy;

const PATIENCE: Duration = Duration::from_secs(5);

async fn connect(node: &FakeNode) -> Result<AppClient, ClientError> {
    AppClient::connect(&node.target(), entropy::seed().unwrap(), PATIENCE).await
}

fn ended(n: u8) -> Event {
    let invoice = Invoice {
        invoice_id: InvoiceId([n; 16]),
        currency: "USD".parse().unwrap(),
        seller: PublicKey([1; 32]),
        amount: 1,
        description: "".parse().unwrap(),
    };
    Event::InvoiceEnded(InvoiceReport { invoice, expires_at: None, state: InvoiceState::Paid })
}

fn cancel(n: u8) -> Command {
    Command::CancelInvoice { invoice_id: InvoiceId([n; 16]) }
}

#[test]
fn replies_find_their_commands_in_whatever_order_they_come() {
    // Answers the first 99 commands with the 100th, last first; those of odd invoices are refused.
    let mut waiting = Vec::new();
    let node = FakeNode::new(move |id, command| {
        let Command::CancelInvoice { invoice_id } = command else { panic!("{command:?}") };
        let outcome = match invoice_id.0[0] % 2 {
            0 => Outcome::Done(Answer::Done),
            _ => Outcome::Refused(Refusal::UnknownInvoice),
        };
        waiting.push(NodeMessage::Reply { id, outcome });
        waiting.reverse();
        Reaction::Say(if waiting.len() == 100 { std::mem::take(&mut waiting) } else { Vec::new() })
    });
    let node = node.start();
    smol::block_on(async {
        let client = connect(&node).await.unwrap();
        let mut submitted = Vec::new();
        for n in 0..100 {
            submitted.push((n, client.submit(client.new_id(), cancel(n)).await.unwrap()));
        }
        for (n, one) in submitted {
            match (n % 2, within(PATIENCE, one.reply()).await) {
                (0, Ok(Answer::Done)) | (1, Err(ClientError::Refused(Refusal::UnknownInvoice))) => {}
                (_, other) => panic!("{n}: {other:?}"),
            }
        }
        client.close().await;
    });
}

#[test]
fn events_go_to_their_command_and_the_rest_to_everybody() {
    let node = FakeNode::new(|id, _| {
        let event = NodeMessage::Event { id, number: Some(7), event: ended(1) };
        Reaction::Say(vec![NodeMessage::Reply { id, outcome: Outcome::Done(Answer::Done) }, event])
    });
    let kept = (CommandId([9; 16]), 3, ended(2));
    node.events.lock().unwrap().push(kept.clone());
    let node = node.start();
    smol::block_on(async {
        let client = connect(&node).await.unwrap();
        let submitted = client.submit(client.new_id(), cancel(1)).await.unwrap();
        assert_eq!(within(PATIENCE, submitted.reply()).await.unwrap(), Answer::Done);
        let told = within(PATIENCE, submitted.event()).await.unwrap();
        assert_eq!(told, Told { id: submitted.id(), number: Some(7), event: ended(1) });
        let other = client.other_events().recv().await.unwrap();
        assert_eq!((other.id, other.number, &other.event), (kept.0, Some(3), &kept.2));
        client.acknowledge(&other).await.unwrap();
        client.close().await;
    });
    // What was acknowledged before the goodbye was heard.
    for _ in 0..100 {
        if node.events.lock().unwrap().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the acknowledgement got lost");
}

#[test]
fn an_app_that_is_not_registered_learns_why() {
    let mut node = FakeNode::new(|id, _| reply(id, Outcome::Done(Answer::Done)));
    node.trusted = false;
    let node = node.start();
    assert!(matches!(smol::block_on(connect(&node)), Err(ClientError::Untrusted)));
}

#[test]
fn another_node_at_the_address_is_not_spoken_to() {
    let node = FakeNode::new(|id, _| reply(id, Outcome::Done(Answer::Done))).start();
    let target = Target { node: PublicKey([1; 32]), ..node.target() };
    let error = smol::block_on(AppClient::connect(&target, entropy::seed().unwrap(), PATIENCE)).unwrap_err();
    assert!(matches!(error, ClientError::Lost(CloseReason::WrongPeer { .. })), "{error}");
}

#[test]
fn a_cut_connection_ends_everything_that_waits() {
    let node = FakeNode::new(|_, _| Reaction::Cut).start();
    smol::block_on(async {
        let client = connect(&node).await.unwrap();
        let waiting = client.submit(client.new_id(), cancel(1)).await.unwrap();
        assert!(matches!(within(PATIENCE, waiting.reply()).await, Err(ClientError::Lost(CloseReason::Cut))));
        assert!(matches!(within(PATIENCE, waiting.event()).await, Err(ClientError::Lost(CloseReason::Cut))));
        assert!(matches!(within(PATIENCE, client.ask(cancel(2))).await, Err(ClientError::Lost(CloseReason::Cut))));
    });
}

#[test]
fn a_silent_node_is_given_up() {
    let node = FakeNode::new(|_, _| Reaction::Say(Vec::new())).start();
    smol::block_on(async {
        let client = connect(&node).await.unwrap();
        let short = Duration::from_millis(50);
        assert!(matches!(within(short, client.ask(cancel(1))).await, Err(ClientError::TimedOut)));
        // A listener that never answers a handshake.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target { address: deaf.local_addr().unwrap().to_string().parse().unwrap(), ..node.target() };
        let connecting = AppClient::connect(&target, entropy::seed().unwrap(), short).await;
        assert!(matches!(connecting, Err(ClientError::TimedOut)));
    });
}

#[test]
fn a_report_out_of_order_ends_the_connection() {
    let node = FakeNode::new(|_, _| {
        Reaction::Say(vec![NodeMessage::Report { number: 5, changes: codec::List::new(), complete: true }])
    });
    let node = node.start();
    smol::block_on(async {
        let client = connect(&node).await.unwrap();
        let error = within(PATIENCE, client.ask(cancel(1))).await.unwrap_err();
        assert_eq!(error.to_string(), "the node broke the protocol: report 5 came instead of 1");
    });
}
