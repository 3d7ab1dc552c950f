//! The demo that a newcomer watches: every step in plain words, with the time at which it was done.

use std::time::Instant;

use offset_protocol::app::FriendReport;
use offset_protocol::money::Currency;

use super::network::{Network, RATE};
use super::process::run as run_tool;
use crate::programs::exit::Failure;
use crate::programs::output::say;
use crate::programs::table::{Side, Table};

/// What each payment of the demo brings to the seller.
const AMOUNT: u128 = 1_000;
/// What friends let each other owe.
const LIMIT: u128 = 100_000;

/// Tells steps with the time since the start.
struct Story {
    start: Instant,
}

impl Story {
    fn tell(&self, line: &str) {
        say(&format!("{:8.3} s  {line}", self.start.elapsed().as_secs_f64()));
    }
}

/// Runs the demo with this many nodes.
///
/// # Errors
/// One sentence about the step that failed.
pub(super) async fn run(nodes: usize) -> Result<(), Failure> {
    let story = Story { start: Instant::now() };
    let mut network = Network::new()?;
    story.tell(&format!("a folder for everything: {}", network.folder.path().display()));
    start(&story, &mut network, nodes).await?;
    configure(&story, &network).await?;
    let before = balances(&network);
    let receipt = pay_by_file(&story, &network)?;
    pay_in_band(&story, &network)?;
    show_balances(&network, &before);
    say(&format!(
        "\nthe receipt of the first payment, checked by stverify, which needs no node:\n{}",
        receipt.trim_end()
    ));
    story.tell("closing everything in order");
    network.end().await?;
    story.tell("done: every program ended with exit 0");
    Ok(())
}

async fn start(story: &Story, network: &mut Network, nodes: usize) -> Result<(), Failure> {
    network.start_relay()?;
    story.tell("a relay runs: nodes without a public address meet there");
    network.start_index_servers()?;
    story.tell("two index servers run and trust each other: they know who could pay whom");
    for number in 1..=nodes {
        network.start_node(&format!("node{number}")).await?;
        story.tell(&format!("node{number} runs, a card with an app that may control it"));
    }
    Ok(())
}

async fn configure(story: &Story, network: &Network) -> Result<(), Failure> {
    network.configure_servers().await?;
    story.tell("every node has a relay and an index server");
    network.befriend(LIMIT).await?;
    let names: Vec<&str> = network.members.iter().map(|member| member.name.as_str()).collect();
    story.tell(&format!("friends in a line, each trusting the next with {LIMIT} USD: {}", names.join(" - ")));
    let percent = f64::from(RATE.mul) / f64::from(u32::MAX) * 100.0;
    story.tell(&format!("a mediator charges {percent:.0} % and {} for what it passes on", RATE.add));
    let route = network.find_route(AMOUNT).await?;
    let fees: u128 = route.parts.iter().map(|part| part.fees).sum();
    let hops = route.parts.first().map_or(0, |part| part.route.len().saturating_sub(1));
    story.tell(&format!(
        "an index server offers a route from {} to {}: {hops} hops, fees {fees}",
        first(network),
        last(network)
    ));
    Ok(())
}

fn first(network: &Network) -> &str {
    network.members.first().map_or("", |member| &member.name)
}

fn last(network: &Network) -> &str {
    network.members.last().map_or("", |member| &member.name)
}

/// Runs `stctrl` as the app of a member.
fn stctrl(network: &Network, member: usize, args: &[&str]) -> Result<String, Failure> {
    let member = &network.members[member];
    let (ident, ticket) = (member.app_ident.display().to_string(), member.ticket.display().to_string());
    let all: Vec<&str> = ["--idfile", &ident, "--ticket", &ticket].into_iter().chain(args.iter().copied()).collect();
    run_tool("stctrl", &all)
}

fn pay_by_file(story: &Story, network: &Network) -> Result<String, Failure> {
    let (buyer, seller) = (0, network.members.len() - 1);
    let path = |name: &str| network.path(name).display().to_string();
    let (invoice, payment, commit, receipt) =
        (path("1.invoice"), path("1.payment"), path("1.commit"), path("1.receipt"));
    let amount = AMOUNT.to_string();
    let create = ["seller", "create-invoice", "--currency", "USD", "--amount", &amount, "--invoice", &invoice];
    stctrl(network, seller, &create)?;
    story.tell(&format!("{} hands an invoice over {AMOUNT} USD to {}", last(network), first(network)));
    let pay = ["buyer", "pay-invoice", "--invoice", &invoice, "--payment", &payment, "--commit", &commit];
    stctrl(network, buyer, &pay)?;
    story.tell(&format!(
        "{} has frozen credits along the route and hands its commit to {}",
        first(network),
        last(network)
    ));
    stctrl(network, seller, &["seller", "commit-invoice", "--invoice", &invoice, "--commit", &commit])?;
    story.tell(&format!("{} collects: the credits move, hop by hop", last(network)));
    wait_for_receipt(network, buyer, &payment, &receipt)?;
    story.tell(&format!("{} has its receipt", first(network)));
    run_tool("stverify", &["verify-receipt", "--invoice", &invoice, "--receipt", &receipt])
}

/// The collect travels back to the buyer after the seller has it.
fn wait_for_receipt(network: &Network, buyer: usize, payment: &str, receipt: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + super::network::PATIENCE;
    loop {
        match stctrl(network, buyer, &["buyer", "payment-status", "--payment", payment, "--receipt", receipt]) {
            Ok(_) => return Ok(()),
            Err(failure) if Instant::now() > deadline => return Err(failure),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

fn pay_in_band(story: &Story, network: &Network) -> Result<(), Failure> {
    let (buyer, seller) = (0, network.members.len() - 1);
    let path = |name: &str| network.path(name).display().to_string();
    let (invoice, receipt) = (path("2.invoice"), path("2.receipt"));
    let amount = AMOUNT.to_string();
    let create = ["seller", "create-invoice", "--currency", "USD", "--amount", &amount, "--invoice", &invoice];
    stctrl(network, seller, &create)?;
    story.tell(&format!("{} hands out a second invoice", last(network)));
    stctrl(network, buyer, &["buyer", "pay", "--invoice", &invoice, "--receipt", &receipt])?;
    story.tell(&format!("{} pays it in one step: the commit travels along the route by itself", first(network)));
    run_tool("stverify", &["verify-receipt", "--invoice", &invoice, "--receipt", &receipt])?;
    story.tell("the second receipt is valid, too");
    Ok(())
}

fn balance(friend: &FriendReport, currency: &Currency) -> i128 {
    friend.currencies.iter().filter(|report| report.currency == *currency).map(|report| report.balance).sum()
}

/// What all friends together owe each member.
fn balances(network: &Network) -> Vec<i128> {
    let total = |member: &super::network::Member| {
        member.client.report().friends.values().map(|friend| balance(friend, &network.currency)).sum()
    };
    network.members.iter().map(total).collect()
}

fn show_balances(network: &Network, before: &[i128]) {
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right, Side::Right]);
    table.row(["node", "before", "after", "change"].map(str::to_owned));
    let after = balances(network);
    for ((member, before), after) in network.members.iter().zip(before).zip(&after) {
        table.row([member.name.clone(), before.to_string(), after.to_string(), format!("{:+}", after - before)]);
    }
    table.row([
        "sum".to_owned(),
        before.iter().sum::<i128>().to_string(),
        after.iter().sum::<i128>().to_string(),
        String::new(),
    ]);
    say(&format!("\nwhat friends owe each node, in USD:\n{table}"));
}
