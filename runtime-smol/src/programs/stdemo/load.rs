//! Many payments along the line, several at once, measured: how many a second, how long each, what they cost.
//!
//! The first node's app asks for a route once and pays along it; each payment has an invoice of its own, is committed in
//! band, and counts from the buyer's command to the event that says how it ended. What servers cost is the difference of
//! their own counters between the first payment and the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use offset_protocol::app::{Answer, Command, CommitMode, Event, PaymentState};
use offset_protocol::bytes::{InvoiceId, PaymentId};
use offset_protocol::identity::Ed25519;
use offset_protocol::index::MultiRoute;
use offset_protocol::machine::Rng;
use offset_protocol::money::Currency;
use serde_json::{Value, json};

use super::LoadArgs;
use super::cost::Cost;
use super::network::{Network, gone};
use crate::app_client::{AppClient, ClientError};
use crate::entropy;
use crate::programs::exit::Failure;
use crate::programs::output::Shown;
use crate::programs::table::{Side, Table};

/// What each payment brings. Small, so that the limits never matter.
const AMOUNT: u128 = 100;
/// What friends let each other owe.
const LIMIT: u128 = 1 << 90;

/// Whether a bar shows how far the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Shown,
    Hidden,
}

/// What came out.
pub(super) struct Figures {
    nodes: usize,
    payments: u32,
    in_flight: u32,
    ok: u32,
    failed: u32,
    seconds: f64,
    /// From the first program's start until a payment is possible.
    ready_s: f64,
    /// Sorted, in milliseconds.
    latencies_ms: Vec<f64>,
    cpu_s: BTreeMap<String, f64>,
    flushes: u64,
    record_bytes: u64,
    database_bytes: u64,
    /// What the largest database grew by.
    growth_bytes: u64,
    disk_bytes: u64,
    /// Of the node that wrote most.
    most_disk_bytes: u64,
    relay_bytes: u64,
}

/// Runs the network, pays, and ends it.
///
/// # Errors
/// One sentence about what failed. Payments that fail are counted, not errors.
pub(super) async fn run(args: &LoadArgs, progress: Progress) -> Result<Figures, Failure> {
    let mut network = Network::new()?;
    let start = Instant::now();
    network.start_relay()?;
    network.start_index_servers()?;
    for number in 1..=args.nodes {
        network.start_node(&format!("node{number}")).await?;
    }
    network.configure_servers().await?;
    network.befriend(LIMIT).await?;
    let route = network.find_route(AMOUNT).await?;
    let ready_s = start.elapsed().as_secs_f64();
    let before = costs(&network).await?;
    let own_cpu_s = own_cpu_s();
    let paid = pay_all(args, progress, &network, route).await?;
    let own_cpu_s = self::own_cpu_s() - own_cpu_s;
    let after = costs(&network).await?;
    let mut figures = Figures::new(args, &network, paid, &before, &after);
    figures.ready_s = ready_s;
    figures.cpu_s.insert("the app".to_owned(), own_cpu_s);
    network.end().await?;
    Ok(figures)
}

async fn costs(network: &Network) -> Result<Vec<Cost>, Failure> {
    let mut costs = Vec::new();
    for server in &network.servers {
        costs.push(server.cost().await?);
    }
    Ok(costs)
}

/// Seconds of processor time of this process so far, which is the buyer's and the seller's app.
fn own_cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

struct Paid {
    seconds: f64,
    latencies: Vec<Duration>,
    failed: u32,
}

/// One payer: takes the next payment until none is left.
struct Payer {
    buyer: AppClient,
    seller: AppClient,
    currency: Currency,
    route: MultiRoute,
    left: Arc<AtomicU32>,
    bar: ProgressBar,
    ids: Rng,
}

async fn pay_all(args: &LoadArgs, progress: Progress, network: &Network, route: MultiRoute) -> Result<Paid, Failure> {
    let bar = bar(args.payments, progress);
    let left = Arc::new(AtomicU32::new(args.payments));
    let seed = entropy::seed().map_err(Failure::failed)?;
    let ends = (network.members.first(), network.members.last());
    let (Some(first), Some(last)) = ends else { return Err(Failure::failed("there are no nodes")) };
    let start = Instant::now();
    let payers: Vec<_> = (0..args.in_flight)
        .map(|number| Payer {
            buyer: first.client.clone(),
            seller: last.client.clone(),
            currency: network.currency,
            route: route.clone(),
            left: left.clone(),
            bar: bar.clone(),
            ids: seed.fork(&number.to_string()).rng(),
        })
        .map(|payer| smol::spawn(payer.run()))
        .collect();
    let mut paid = Paid { seconds: 0.0, latencies: Vec::new(), failed: 0 };
    for payer in payers {
        let (latencies, failed) = payer.await?;
        paid.latencies.extend(latencies);
        paid.failed += failed;
    }
    paid.seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(paid)
}

fn bar(payments: u32, progress: Progress) -> ProgressBar {
    let target = match progress {
        Progress::Shown => ProgressDrawTarget::stderr(),
        Progress::Hidden => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(payments.into()), target);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} payments, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Payer {
    async fn run(mut self) -> Result<(Vec<Duration>, u32), Failure> {
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            match self.pay().await.map_err(gone)? {
                Some(latency) => latencies.push(latency),
                None => failed += 1,
            }
            self.bar.inc(1);
        }
        Ok((latencies, failed))
    }

    /// One payment; `None` if it failed.
    async fn pay(&mut self) -> Result<Option<Duration>, ClientError> {
        let invoice = Command::AddInvoice {
            invoice_id: InvoiceId(self.ids.bytes()),
            currency: self.currency,
            amount: AMOUNT,
            description: Default::default(),
            expires_at: None,
        };
        let Answer::Invoice(invoice) = self.seller.ask(invoice).await? else { return Ok(None) };
        let order = Command::Pay {
            payment_id: PaymentId(self.ids.bytes()),
            invoice: invoice.clone(),
            max_fee: self.route.parts.iter().map(|part| part.fees).sum(),
            mode: CommitMode::InBand,
            routes: Some(self.route.clone()),
        };
        let start = Instant::now();
        let payment = self.buyer.submit(self.buyer.new_id(), order).await?;
        payment.reply().await?;
        loop {
            let told = payment.event().await?;
            let Event::PaymentEnded(report) = &told.event else { continue };
            let latency = start.elapsed();
            let paid = match &report.state {
                PaymentState::Paid { receipt, .. } => receipt.verify(&invoice, &Ed25519).is_ok(),
                _ => false,
            };
            self.buyer.acknowledge(&told).await?;
            return Ok(paid.then_some(latency));
        }
    }
}

impl Figures {
    fn new(args: &LoadArgs, network: &Network, paid: Paid, before: &[Cost], after: &[Cost]) -> Figures {
        let mut latencies_ms: Vec<f64> = paid.latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
        latencies_ms.sort_by(f64::total_cmp);
        let mut figures = Figures {
            nodes: network.members.len(),
            payments: args.payments,
            in_flight: args.in_flight,
            ok: latencies_ms.len() as u32,
            failed: paid.failed,
            seconds: paid.seconds,
            ready_s: 0.0,
            latencies_ms,
            cpu_s: BTreeMap::new(),
            flushes: 0,
            record_bytes: 0,
            database_bytes: 0,
            growth_bytes: 0,
            disk_bytes: 0,
            most_disk_bytes: 0,
            relay_bytes: 0,
        };
        for ((server, before), after) in network.servers.iter().zip(before).zip(after) {
            let cost = after.since(before);
            let growth = after.database_bytes.saturating_sub(before.database_bytes);
            figures.growth_bytes = figures.growth_bytes.max(growth);
            figures.disk_bytes += cost.disk_bytes;
            figures.most_disk_bytes = figures.most_disk_bytes.max(cost.disk_bytes);
            *figures.cpu_s.entry(server.program.to_owned()).or_default() += cost.cpu_s;
            figures.flushes += cost.flushes;
            figures.record_bytes += cost.record_bytes;
            figures.database_bytes = figures.database_bytes.max(cost.database_bytes);
            if server.program == "strelay" {
                figures.relay_bytes += cost.bytes_in;
            }
        }
        figures
    }

    fn per_payment(&self, what: u64) -> f64 {
        what as f64 / f64::from(self.payments.max(1))
    }

    fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        self.latencies_ms.get(last * percent / 100).copied().unwrap_or(0.0)
    }

    fn bytes_per_hop(&self) -> f64 {
        self.per_payment(self.relay_bytes) / (self.nodes.saturating_sub(1).max(1)) as f64
    }

    fn fields(&self) -> Value {
        json!({
            "nodes": self.nodes,
            "payments": self.payments,
            "in_flight": self.in_flight,
            "ok": self.ok,
            "failed": self.failed,
            "ready_s": self.ready_s,
            "payments_per_s": f64::from(self.ok) / self.seconds,
            "latency_ms": { "p50": self.percentile(50), "p99": self.percentile(99) },
            "cpu_s": self.cpu_s,
            "flushes_per_payment": self.per_payment(self.flushes),
            "wire_bytes_per_payment_hop": self.bytes_per_hop(),
            "db_bytes_per_payment": self.per_payment(self.record_bytes),
            "disk_bytes_per_payment": self.per_payment(self.disk_bytes),
            "most_disk_bytes_per_payment": self.per_payment(self.most_disk_bytes),
            "largest_database_bytes": self.database_bytes,
            "growth_per_payment": self.per_payment(self.growth_bytes),
        })
    }

    /// For a human and for programs; a failed payment makes the whole a failure.
    pub(super) fn shown(&self) -> Shown {
        let mut table = Table::new(&[Side::Left, Side::Right]);
        table.row(["nodes in a line", &self.nodes.to_string()].map(str::to_owned));
        let ready = format!("{:.2} s", self.ready_s);
        table.row(["from the first program's start until payments are possible".to_owned(), ready]);
        table.row(["payments made, failed".to_owned(), format!("{}, {}", self.ok, self.failed)]);
        table.row(["in flight".to_owned(), self.in_flight.to_string()]);
        table.row(["payments a second".to_owned(), format!("{:.1}", f64::from(self.ok) / self.seconds)]);
        let latency = format!("{:.1} ms, {:.1} ms", self.percentile(50), self.percentile(99));
        table.row(["latency p50, p99".to_owned(), latency]);
        for (program, seconds) in &self.cpu_s {
            let each = seconds * 1e3 / f64::from(self.payments.max(1));
            table.row([format!("processor time of {program}"), format!("{seconds:.2} s, {each:.2} ms a payment")]);
        }
        table.row(["flushes a payment".to_owned(), format!("{:.2}", self.per_payment(self.flushes))]);
        table.row(["bytes through the relay, a payment and hop".to_owned(), format!("{:.0}", self.bytes_per_hop())]);
        let written = format!("{:.0}", self.per_payment(self.record_bytes));
        table.row(["bytes of records written, a payment, all nodes".to_owned(), written]);
        let on_disk = format!("{:.0}", self.per_payment(self.disk_bytes));
        table.row(["bytes written to disks, a payment, all nodes".to_owned(), on_disk]);
        let most = format!("{:.0}", self.per_payment(self.most_disk_bytes));
        table.row(["the same by the node that wrote most".to_owned(), most]);
        table.row(["largest database, bytes in use".to_owned(), self.database_bytes.to_string()]);
        let growth = format!("{:.0}", self.per_payment(self.growth_bytes));
        table.row(["what that grew by, bytes a payment".to_owned(), growth]);
        let shown = Shown::new(table.to_string(), self.fields());
        match self.failed {
            0 => shown,
            failed => shown.but(Failure::failed(format_args!("{failed} of {} payments failed", self.payments))),
        }
    }
}
