use super::*;

fn relay(port: u16) -> RelayAddress {
    RelayAddress { public_key: PublicKey([8; 32]), address: format!("r:{port}").parse().unwrap() }
}

#[test]
fn a_command_that_was_carried_out_before_the_connection_broke_is_done() {
    // The first try is carried out and its reply is lost; the second is refused, as the name is taken by then.
    let report: Arc<Mutex<Vec<ReportChange>>> = Arc::default();
    let (kept, mut tries) = (report.clone(), 0);
    let mut node = FakeNode::new(move |id: CommandId, command| {
        let app::Command::AddRelay { relay, name } = command else { panic!("{command:?}") };
        tries += 1;
        if tries > 1 {
            return reply(id, Outcome::Refused(Refusal::NameTaken));
        }
        kept.lock().unwrap().push(ReportChange::Relay(RelayReport { relay, name, connected: false }));
        Reaction::Cut
    });
    node.report = report;
    let stage = Stage::new(node);
    files::write(&stage.at("relay.ticket"), &relay(1)).unwrap();
    assert!(stage.stctrl("config add-relay -r @relay.ticket -n r").is_ok());
    assert_eq!(stage.heard(), 2);
    // Given once more it was done by nobody but an earlier run: that is told.
    assert_eq!(stage.stctrl("config add-relay -r @relay.ticket -n r").unwrap_err().exit, Exit::Failed);
}

#[test]
fn a_connection_that_keeps_breaking_ends_in_time() {
    let stage = Stage::new(FakeNode::new(|_, _| Reaction::Cut));
    let failure = stage.stctrl("--timeout 1 config enable-friend -n bob").unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
}

#[test]
fn a_refused_command_never_looks_accepted() {
    let stage = Stage::answering(|_| Outcome::Refused(Refusal::UnknownFriend));
    for line in
        ["enable-friend -n bob", "remove-friend -n bob", "open-currency -n bob -c USD", "rename-friend -n a -w b"]
    {
        let failure = stage.stctrl(&format!("config {line}")).unwrap_err();
        assert_eq!(failure, Failure::failed("there is no friend of that name; 'info friends' lists them"), "{line}");
    }
}

fn bob() -> FriendReport {
    let currency = CurrencyReport {
        currency: "USD".parse().unwrap(),
        balance: -5,
        out_frozen: 1,
        in_frozen: 0,
        max_debt: 1000,
        rate: Rate { mul: 7, add: 2 },
        is_open: true,
        listed: true,
        friend_listed: true,
    };
    FriendReport {
        public_key: PublicKey([9; 32]),
        name: "bob".parse().unwrap(),
        enabled: true,
        online: false,
        relays: List::truncated([relay(1)]),
        currencies: List::truncated([currency, CurrencyReport { currency: "EUR".parse().unwrap(), ..currency }]),
        channel: ChannelReport::Consistent { epoch: 0 },
    }
}

fn terms(balance: i128) -> ResetTerms {
    let balances = List::truncated([CurrencyBalance { currency: "USD".parse().unwrap(), balance }]);
    ResetTerms { epoch: 2, reset_token: ResetToken([balance.unsigned_abs() as u8; 32]), balances }
}

#[test]
fn friends_are_shown_by_currency_and_disagreements_with_both_terms() {
    let (agreeing, mut carol) = (bob(), bob());
    carol.name = "car\u{202e}ol".parse().unwrap();
    carol.currencies = List::new();
    carol.enabled = false;
    carol.online = true;
    carol.channel =
        ChannelReport::Inconsistent { why: "another head".parse().unwrap(), ours: terms(4), theirs: Some(terms(-6)) };
    let shown = info::friends([&carol, &agreeing].into_iter());
    let expected = "\x20   friend  currency  balance  frozen out  frozen in  max debt  rate        requests
E-  bob     USD            -5           1          0      1000  x*7/2^32+2  open
            EUR            -5           1          0      1000  x*7/2^32+2  open
D+  car?ol

'car?ol' is INCONSISTENT: another head
as this node counts: 4 USD (epoch 2)
as 'car?ol' counts: 6 USD (epoch 2)
accepting what 'car?ol' counts: +2 USD, compared with what this node counts
Each side counts as paid what the other had asked of it and was still open. Whoever has forgotten something accepts what the other counts. If that is this node, or you agree to it:
stctrl config reset-friend --name 'car?ol'";
    assert_eq!(shown.text, expected);
    assert_eq!(shown.fields["friends"][0]["currencies"][1]["balance"], json!("-5"));
    let channel = &shown.fields["friends"][1]["channel"];
    assert_eq!(channel["friend_terms"]["epoch"], json!(2));
    assert_eq!(channel["friend_terms"]["balances"][0]["balance"], json!("-6"), "as the friend states them");
    assert_eq!(channel["if_accepted"], json!([{ "currency": "USD", "balance": "6" }]));
    let totals = info::balance([&agreeing, &agreeing].into_iter());
    assert_eq!(totals.fields["balances"][1]["balance"], json!("-10"));
}

/// Found by a newcomer, to whom all looked well but the payments.
#[test]
fn with_whom_nothing_moves_does_not_look_open_and_what_accepting_costs_is_said() {
    let mut carol = bob();
    let disagree = |ours, theirs| ChannelReport::Inconsistent { why: "x".parse().unwrap(), ours, theirs };
    carol.channel = disagree(terms(-100), Some(terms(140)));
    let text = info::friends([&carol].into_iter()).text;
    let table = text.split("\n\n").next().unwrap();
    assert!(!table.contains("open") && table.matches("INCONSISTENT").count() == 2, "{text}");
    let fields = info::friends([&carol].into_iter()).fields;
    assert_eq!(fields["friends"][0]["currencies"][1]["requests"], json!("INCONSISTENT"));
    assert!(text.contains("accepting what 'bob' counts: -40 USD, compared with what this node counts"), "{text}");
    let nothing = ResetTerms { balances: List::new(), ..terms(0) };
    carol.channel = disagree(terms(7), Some(nothing));
    let text = info::friends([&carol].into_iter()).text;
    assert!(text.contains("as 'bob' counts: all balances 0 (epoch 2)\naccepting what 'bob' counts: -7 USD"), "{text}");
    carol.channel = disagree(terms(7), Some(terms(-7)));
    assert!(info::friends([&carol].into_iter()).text.contains("counts: no change, compared"));
    carol.channel = disagree(terms(7), None);
    assert!(info::friends([&carol].into_iter()).text.ends_with("nothing yet that could be accepted"));
}

#[test]
fn a_reset_accepts_the_terms_that_were_shown() {
    let node = FakeNode::new(|id, command| {
        let accepted = matches!(command, app::Command::ResetFriend { terms: accepted, .. } if accepted == terms(-6));
        reply(id, if accepted { DONE } else { Outcome::Refused(Refusal::NoSuchTerms) })
    });
    let mut dave = bob();
    dave.channel = ChannelReport::Inconsistent { why: "x".parse().unwrap(), ours: terms(4), theirs: Some(terms(-6)) };
    node.report.lock().unwrap().push(ReportChange::Friend(dave));
    let stage = Stage::new(node);
    let shown = stage.stctrl("config reset-friend -n bob").unwrap();
    assert_eq!(shown.text, "what 'bob' counts is accepted: 6 USD (epoch 2)");
    assert_eq!(stage.stctrl("config reset-friend -n eve").unwrap_err().exit, Exit::Failed);
}

#[test]
fn relays_of_one_friend_are_not_given_to_another() {
    let stage = Stage::answering(|_| DONE);
    stage.node.report.lock().unwrap().push(ReportChange::Friend(bob()));
    let ticket = |key: u8| FriendTicket { public_key: PublicKey([key; 32]), relays: List::truncated([relay(2)]) };
    files::write(&stage.at("right"), &ticket(9)).unwrap();
    files::write(&stage.at("wrong"), &ticket(10)).unwrap();
    assert!(stage.stctrl("config set-friend-relays -f @right -n bob").is_ok());
    assert_eq!(stage.stctrl("config set-friend-relays -f @wrong -n bob").unwrap_err().exit, Exit::Failed);
    assert_eq!(stage.heard(), 1);
}

#[test]
fn a_friend_ticket_names_the_node_and_its_relays() {
    let stage = Stage::answering(|_| DONE);
    assert_eq!(stage.stctrl("info export-ticket -t @me.friend").unwrap_err().exit, Exit::Failed);
    let name = "r".parse().unwrap();
    stage.node.report.lock().unwrap().push(ReportChange::Relay(RelayReport { relay: relay(1), name, connected: true }));
    stage.stctrl("info export-ticket -t @me.friend").unwrap();
    let ticket: FriendTicket = files::read(&stage.at("me.friend")).unwrap();
    assert_eq!(ticket, FriendTicket { public_key: stage.ticket().public_key, relays: List::truncated([relay(1)]) });
    assert!(stage.stctrl("info relays").unwrap().text.contains("+  r     r:1"));
}
