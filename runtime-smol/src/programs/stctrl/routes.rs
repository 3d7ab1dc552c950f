//! `stctrl routes`: how could an amount travel?

use clap::{Args, Subcommand};
use offset_protocol::app::{self, Answer};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::MultiRoute;
use offset_protocol::money::Currency;
use serde_json::{Value, json};

use super::session::{Session, wrong_answer};
use crate::programs::args;
use crate::programs::exit::Failure;
use crate::programs::output::Shown;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask the index server for routes, cheapest first.
    Find(Find),
}

#[derive(Debug, Args)]
pub(super) struct Find {
    /// The currency.
    #[arg(short, long)]
    pub(super) currency: Currency,
    /// What shall arrive.
    #[arg(short, long, value_parser = args::positive_amount)]
    pub(super) amount: u128,
    /// Whom to pay.
    // One key in 64 begins with a dash.
    #[arg(short = 'k', long = "to", value_name = "KEY", allow_hyphen_values = true)]
    pub(super) to: PublicKey,
    /// The most that mediators may get, all together.
    #[arg(long, value_name = "AMOUNT", value_parser = args::amount)]
    pub(super) max_fee: Option<u128>,
}

pub(super) async fn run(command: &Command, session: &mut Session) -> Result<Shown, Failure> {
    match command {
        Command::Find(args) => find(args, session).await,
    }
}

/// Also what `buyer pay --dry-run` does.
pub(super) async fn find(args: &Find, session: &mut Session) -> Result<Shown, Failure> {
    let Find { currency, amount, to, max_fee } = *args;
    let command =
        app::Command::FindRoutes { currency, amount, source: None, destination: to, exclude: List::new(), max_fee };
    let Answer::Routes { options, capped } = session.order(command).await? else { return Err(wrong_answer()) };
    if options.is_empty() {
        return Err(Failure::failed("no route has this capacity within the fee"));
    }
    let mut text: Vec<String> = Vec::new();
    for (n, option) in options.iter().enumerate() {
        text.push(format!("option {}: fee {} {currency}", n + 1, fees(option)));
        text.extend(option.parts.iter().flat_map(|part| {
            let head = format!("  {} {currency}, fee {}:", part.amount, part.fees);
            std::iter::once(head).chain(part.route.iter().map(|key| format!("    {key}")))
        }));
    }
    if capped {
        text.push("the server stopped searching early: there may be cheaper routes".to_owned());
    }
    let options: Vec<Value> = options.iter().map(route_fields).collect();
    Ok(Shown::new(text.join("\n"), json!({ "options": options, "capped": capped })))
}

/// What all parts cost together.
fn fees(route: &MultiRoute) -> u128 {
    route.parts.iter().fold(0, |sum, part| sum.saturating_add(part.fees))
}

/// A way to pay, for programs.
pub(super) fn route_fields(route: &MultiRoute) -> Value {
    let parts = route.parts.iter().map(|part| {
        let keys: Vec<String> = part.route.iter().map(PublicKey::to_string).collect();
        json!({ "amount": part.amount.to_string(), "fees": part.fees.to_string(), "route": keys })
    });
    json!({ "fees": fees(route).to_string(), "parts": parts.collect::<Vec<Value>>() })
}
