use super::*;

#[test]
fn paying_by_file_leaves_a_payment_and_a_valid_commit_then_a_receipt() {
    let paid = Arc::new(Mutex::new(false));
    let is_paid = paid.clone();
    let mut answer = buyer_node(|| PaymentState::Ready { fees: 3 });
    let stage = Stage::answering(move |command| match (answer(command), *is_paid.lock().unwrap()) {
        (Outcome::Done(Answer::Payment(report)), true) => {
            let receipt = receipt(&report.invoice, &seller());
            Outcome::Done(Answer::Payment(PaymentReport { state: PaymentState::Paid { receipt, fees: 3 }, ..report }))
        }
        (outcome, _) => outcome,
    });
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let shown = stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap();
    assert_eq!((shown.failure, &shown.fields["fees"]), (None, &json!("3")));
    let commit: Commit = files::read(&stage.at("commit")).unwrap();
    assert_eq!(commit.verify(&invoice(), &offset_protocol::identity::Ed25519), Ok(()));
    let payment: Payment = files::read(&stage.at("payment")).unwrap();
    assert_eq!(ids_paid(&stage), [payment.payment_id]);

    let open = stage.stctrl("buyer payment-status -p @payment -r @receipt").unwrap();
    assert_eq!(open.failure.map(|failure| failure.exit), Some(Exit::Pending));
    assert!(!stage.at("receipt").exists());
    *paid.lock().unwrap() = true;
    for _ in 0..2 {
        let shown = stage.stctrl("buyer payment-status -p @payment -r @receipt").unwrap();
        assert_eq!((shown.failure, &shown.fields["status"]), (None, &json!("paid")));
    }
    let receipt: Receipt = files::read(&stage.at("receipt")).unwrap();
    assert!(receipt.verify(&invoice(), &offset_protocol::identity::Ed25519).is_ok());
    // A run that was interrupted before it wrote the commit makes it from the receipt.
    std::fs::remove_file(stage.at("commit")).unwrap();
    stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap();
    assert_eq!(files::read::<Commit>(&stage.at("commit")), Ok(commit));
    assert_eq!(ids_paid(&stage).len(), 1);
}

#[test]
fn an_interrupted_payment_goes_on_and_is_not_paid_twice() {
    let ready = Arc::new(Mutex::new(false));
    let is_ready = ready.clone();
    let stage = Stage::answering(buyer_node(move || match *is_ready.lock().unwrap() {
        true => PaymentState::Ready { fees: 0 },
        false => PaymentState::Requested,
    }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let line = "buyer pay-invoice -i @invoice -p @payment -c @commit --max-time 1";
    let shown = stage.stctrl(line).unwrap();
    assert_eq!(shown.failure.map(|failure| failure.exit), Some(Exit::Pending));
    assert!(stage.at("payment").exists() && !stage.at("commit").exists());
    *ready.lock().unwrap() = true;
    assert_eq!(stage.stctrl(line).unwrap().failure, None);
    assert!(stage.at("commit").exists());
    assert_eq!(ids_paid(&stage).len(), 1);
    // A payment file of another invoice is not taken for this one.
    let other = Invoice { amount: 7, ..invoice() };
    files::write(&stage.at("other"), &other).unwrap();
    let failure = stage.stctrl("buyer pay-invoice -i @other -p @payment -c @commit2").unwrap_err();
    assert!(failure.sentence.ends_with("belongs to another invoice; choose another payment file"), "{failure}");
}

#[test]
fn a_reply_that_is_lost_does_not_pay_twice() {
    let mut answer = buyer_node(|| PaymentState::Ready { fees: 0 });
    let mut cuts = 3;
    let stage = Stage::new(FakeNode::new(move |id, command| {
        // Carried out, but every command's first reply is lost.
        let outcome = answer(command);
        if cuts > 0 {
            cuts -= 1;
            return Reaction::Cut;
        }
        cuts = 1;
        reply(id, outcome)
    }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    assert_eq!(stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap().failure, None);
    let ids = ids_paid(&stage);
    assert!(ids.len() > 1 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn what_cannot_be_written_is_refused_before_the_node_hears_anything() {
    let stage = Stage::answering(|command| panic!("{command:?}"));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    std::fs::write(stage.at("taken"), "").unwrap();
    for line in [
        "buyer pay-invoice -i @invoice -p @payment -c @taken",
        "buyer pay-invoice -i @invoice -p @taken -c @commit",
        "buyer pay-invoice -i @invoice -p @payment -c @no/such/folder",
        "buyer pay -i @invoice -r @taken",
        "seller create-invoice -c USD -a 5 -i @taken",
        "info friend-last-token -n bob -t @taken",
        "info export-ticket -t @taken",
        "seller commit-invoice -i @invoice -c @taken",
    ] {
        assert_eq!(stage.stctrl(line).unwrap_err().exit, Exit::Failed, "{line}");
    }
    assert!(!stage.at("payment").exists());
    assert_eq!(std::fs::read(stage.at("taken")).unwrap(), b"");
}

#[test]
fn a_payment_without_index_server_is_refused_at_once_and_leaves_nothing() {
    let stage = Stage::answering(|command| match command {
        app::Command::PaymentStatus { .. } => Outcome::Refused(Refusal::UnknownPayment),
        _ => Outcome::Refused(Refusal::NoIndexServer),
    });
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let failure = stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap_err();
    assert_eq!(failure, Failure::failed("the node has no index server; add one with 'config add-index'"));
    assert_eq!(std::fs::read_dir(stage.folder.path()).unwrap().count(), 3, "identity, ticket, invoice");
}

#[test]
fn a_payment_that_may_have_begun_is_not_forgotten_because_its_second_try_is_refused() {
    let mut tries = 0;
    let stage = Stage::new(FakeNode::new(move |id, command| match command {
        app::Command::PaymentStatus { .. } => reply(id, Outcome::Refused(Refusal::UnknownPayment)),
        _ => {
            tries += 1;
            if tries == 1 { Reaction::Cut } else { reply(id, Outcome::Refused(Refusal::Busy)) }
        }
    }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let failure = stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let payment: Payment = files::read(&stage.at("payment")).unwrap();
    assert!(ids_paid(&stage).iter().all(|id| *id == payment.payment_id));
}

#[test]
fn a_payment_that_failed_says_why_and_can_be_tried_again() {
    let fails = Arc::new(Mutex::new(true));
    let failing = fails.clone();
    let stage = Stage::answering(buyer_node(move || match *failing.lock().unwrap() {
        true => PaymentState::Failed(PaymentFailure::NoRoute),
        false => PaymentState::Ready { fees: 0 },
    }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let line = "buyer pay-invoice -i @invoice -p @payment -c @commit";
    let shown = stage.stctrl(line).unwrap();
    let failure = shown.failure.unwrap();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.sentence.contains("no route has this capacity within the fee"), "{failure}");
    let status = stage.stctrl("buyer payment-status -p @payment -r @receipt").unwrap();
    assert_eq!(status.failure.map(|failure| failure.exit), Some(Exit::Failed));
    *fails.lock().unwrap() = false;
    assert_eq!(stage.stctrl(line).unwrap().failure, None);
}

/// Found by a newcomer, who restored an old copy after the seller had collected.
#[test]
fn of_a_payment_whose_part_was_lost_after_the_commit_nobody_says_that_nothing_moved_or_begins_it_anew() {
    let stage = Stage::answering(buyer_node(|| PaymentState::Failed(PaymentFailure::PartLost)));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let payment = Payment { payment_id: PaymentId(invoice().invoice_id.0), invoice: invoice() };
    files::write(&stage.at("payment"), &payment).unwrap();
    for line in [
        "buyer pay -i @invoice",
        "buyer pay-invoice -i @invoice -p @payment -c @commit",
        "buyer payment-status -p @payment -r @receipt",
        "buyer withdraw -i @invoice",
    ] {
        let shown = stage.stctrl(line).unwrap();
        assert_eq!(shown.fields["status"], json!("unknown"), "{line}");
        let failure = shown.failure.unwrap();
        assert_eq!(failure.exit, Exit::Failed, "{line}");
        assert!(failure.sentence.contains("not known here") && !failure.sentence.contains("nothing"), "{failure}");
    }
    assert_eq!(ids_paid(&stage), [payment.payment_id], "begun by the first command, and never again");
}

#[test]
fn paying_in_band_ends_with_a_receipt_and_never_pays_twice() {
    let stage =
        Stage::answering(buyer_node(|| PaymentState::Paid { receipt: receipt(&invoice(), &seller()), fees: 4 }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let shown = stage.stctrl("buyer pay -i @invoice").unwrap();
    assert_eq!((shown.failure, &shown.fields["receipt"]["type"]), (None, &json!("receipt")));
    stage.stctrl("buyer pay -i @invoice -r @receipt").unwrap();
    assert!(stage.at("receipt").exists());
    assert_eq!(ids_paid(&stage), [PaymentId(invoice().invoice_id.0)]);
}

#[test]
fn a_receipt_that_proves_nothing_is_not_written() {
    let forged = receipt(&invoice(), &Identity::from_private_key(&[99; 32]));
    let stage = Stage::answering(buyer_node(move || PaymentState::Paid { receipt: forged.clone(), fees: 4 }));
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let failure = stage.stctrl("buyer pay -i @invoice -r @receipt").unwrap_err();
    assert!(failure.sentence.contains("the seller's signature does not match"), "{failure}");
    assert!(!stage.at("receipt").exists());
}

#[test]
fn the_default_fee_is_a_tenth_but_never_too_small_or_too_large() {
    let fee = |amount| pay::default_max_fee(&Invoice { amount, ..invoice() });
    let max = offset_protocol::limits::MAX_AMOUNT;
    assert_eq!([fee(1), fee(99), fee(1_000), fee(max), fee(max - 5)], [10, 10, 100, 0, 5]);
}
