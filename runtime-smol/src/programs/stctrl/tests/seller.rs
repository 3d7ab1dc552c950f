use super::*;

#[test]
fn an_invoice_is_made_and_cancelled() {
    let stage = Stage::answering(|_| DONE);
    let key = stage.ticket().public_key;
    let stage = Stage::answering(move |command| match command {
        app::Command::AddInvoice { invoice_id, currency, amount, description, .. } => {
            Outcome::Done(Answer::Invoice(Invoice { invoice_id, currency, seller: key, amount, description }))
        }
        app::Command::CancelInvoice { .. } => DONE,
        other => panic!("{other:?}"),
    });
    stage.stctrl("seller create-invoice -c USD -a 5 -i @invoice -d apples -e 7d").unwrap();
    let invoice: Invoice = files::read(&stage.at("invoice")).unwrap();
    assert_eq!((invoice.seller, invoice.amount, invoice.description.as_str()), (key, 5, "apples"));
    let first = stage.node.heard.lock().unwrap()[0].clone();
    assert!(matches!(first, app::Command::AddInvoice { expires_at: Some(_), .. }), "{first:?}");
    stage.stctrl("seller cancel-invoice -i @invoice").unwrap();
}

/// A node whose invoice stands at the next of `states` each time it is asked for, and at the last for ever.
fn seller_stage(mut states: Vec<InvoiceState>) -> Stage {
    let node = Arc::new(Identity::from_private_key(&[42; 32]));
    let invoice = Invoice { seller: node.public_key(), ..invoice() };
    let told = invoice.clone();
    let stage = Stage::answering(move |command| match command {
        app::Command::CommitInvoice { .. } => DONE,
        app::Command::InvoiceStatus { .. } => {
            let state = if states.len() > 1 { states.remove(0) } else { states[0] };
            Outcome::Done(Answer::InvoiceStatus(InvoiceReport { invoice: told.clone(), expires_at: None, state }))
        }
        other => panic!("{other:?}"),
    });
    files::write(&stage.at("invoice"), &invoice).unwrap();
    files::write(&stage.at("commit"), &pay::commit_of(&receipt(&invoice, &node))).unwrap();
    stage
}

#[test]
fn a_commit_is_done_only_when_everything_is_collected() {
    let collecting = InvoiceState::Collecting { collected: 40 };
    let exit_after = |states: Vec<InvoiceState>| {
        let shown = seller_stage(states).stctrl("seller commit-invoice -i @invoice -c @commit --max-time 1").unwrap();
        shown.failure.map_or(Exit::Done, |failure| failure.exit)
    };
    assert_eq!(exit_after(vec![InvoiceState::Paid]), Exit::Done);
    assert_eq!(exit_after(vec![collecting, InvoiceState::Paid]), Exit::Done);
    assert_eq!(exit_after(vec![collecting]), Exit::Pending);
    assert_eq!(exit_after(vec![InvoiceState::PaidInPart { collected: 40 }]), Exit::Failed);
    assert_eq!(exit_after(vec![InvoiceState::Cancelled]), Exit::Failed);
}

#[test]
fn a_commit_that_proves_nothing_never_reaches_the_node() {
    let stage = seller_stage(vec![InvoiceState::Paid]);
    let mut commit: Commit = files::read(&stage.at("commit")).unwrap();
    commit.signature = Signature([7; 64]);
    files::write(&stage.at("forged"), &commit).unwrap();
    files::write(&stage.at("foreign"), &invoice()).unwrap();
    for line in ["-i @invoice -c @forged", "-i @foreign -c @commit", "-i @commit -c @invoice"] {
        assert_eq!(stage.stctrl(&format!("seller commit-invoice {line}")).unwrap_err().exit, Exit::Failed, "{line}");
    }
    assert_eq!(stage.heard(), 0);
}

#[test]
fn kept_events_are_acknowledged() {
    let stage = Stage::answering(|_| DONE);
    let report = InvoiceReport { invoice: invoice(), expires_at: None, state: InvoiceState::Paid };
    stage.node.events.lock().unwrap().push((CommandId([1; 16]), 4, Event::InvoiceEnded(report)));
    // The event may come just after the report that `info` waits for; it is told until it is acknowledged.
    for _ in 0..50 {
        stage.stctrl("config enable-friend -n bob").unwrap();
        if stage.node.events.lock().unwrap().is_empty() {
            return;
        }
    }
    panic!("never acknowledged");
}
