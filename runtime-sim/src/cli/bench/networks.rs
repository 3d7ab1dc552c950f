//! Figures of the fidelity of funds, and of the event queue alone.

use offset_protocol::machine::{Duration, Instant};

use super::told_peak;
use super::{Answer, Measured, NoFigure, Size, cpu_seconds, memory_now, timed};
use crate::bench::network::Network;
use crate::bench::turn_over;
use crate::case::Case;
use crate::funds::{Options, Run};
use crate::result::Recorder;
use crate::topology::Shape;

/// Hosts of the queue that is measured alone.
const HOSTS: u32 = 100_000;
/// Events of it.
const EVENTS: u64 = 20_000_000;
/// Payments that must be paid, in a thousand: a world that pays nothing is fast, and measures nothing.
const PAID_PER_MILLE: u64 = 950;
const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn event_loop(size: Size) -> Answer {
    let events = size.of(EVENTS);
    let (waiting, seconds) = timed(|| turn_over(HOSTS, events));
    let mut measured = Measured::default();
    measured.value("events", events as f64 / seconds);
    measured.note(format!("{events} events, {waiting} waiting at any time, {seconds:.1} s"));
    Ok(measured)
}

pub(super) fn funds_1k(size: Size) -> Answer {
    let network = Network {
        shape: Shape::BarabasiAlbert { links: 4 },
        nodes: size.nodes(1_000),
        payments: size.of(30_000),
        per_second: 100,
        seed: 1,
    };
    let paid = pay(&network)?;
    let mut measured = Measured::default();
    measured.value("events", paid.events_per_second());
    measured.note(paid.to_text());
    Ok(measured)
}

pub(super) fn funds_100k(size: Size) -> Answer {
    let began = cpu_seconds();
    let network = Network {
        shape: Shape::BarabasiAlbert { links: 4 },
        nodes: size.nodes(100_000),
        payments: size.of(1_000_000),
        per_second: 1_000,
        seed: 1,
    };
    let paid = pay(&network)?;
    let mut measured = Measured::default();
    measured.value("events", paid.events_per_second());
    measured.value("all of it", (cpu_seconds() - began) / 60.0);
    measured.value("peak memory", told_peak()? / GIB);
    measured.note(paid.to_text());
    Ok(measured)
}

pub(super) fn payments_6k(size: Size) -> Answer {
    let network = Network {
        shape: Shape::BarabasiAlbert { links: 5 },
        nodes: size.nodes(6_000),
        payments: size.of(60_000),
        per_second: 500,
        seed: 1,
    };
    let paid = pay(&network)?;
    let mut measured = Measured::default();
    measured.value("payments", paid.paid as f64 / paid.run_seconds);
    measured.note(paid.to_text());
    Ok(measured)
}

/// What a world with payments came to.
struct Paid {
    nodes: usize,
    friendships: usize,
    ordered: u64,
    paid: u64,
    events: u64,
    set_up_seconds: f64,
    run_seconds: f64,
}

impl Paid {
    fn events_per_second(&self) -> f64 {
        self.events as f64 / self.run_seconds
    }

    fn to_text(&self) -> String {
        let Paid { nodes, friendships, ordered, paid, events, set_up_seconds, run_seconds } = self;
        format!(
            "{nodes} nodes, {friendships} friendships, {paid} of {ordered} paid, {events} events; \
             set up in {set_up_seconds:.1} s, run in {run_seconds:.1} s, {:.0} payments/s; checkers on",
            *paid as f64 / run_seconds
        )
    }
}

/// Runs a network to its end, with the checkers of large worlds, the last look at everything included.
fn pay(network: &Network) -> Result<Paid, NoFigure> {
    let (case, draw_seconds) = timed(|| network.case());
    let case = case.map_err(NoFigure::failed)?;
    let options = Options::large();
    let (run, set_up_seconds) = timed(|| Run::new(&case, &options));
    let mut run = run.map_err(NoFigure::failed)?;
    let mut recorder = Recorder::default();
    let (ended, run_seconds) = timed(|| run.carry_on_recorded(&mut recorder, &mut |_| {}));
    ended.map_err(NoFigure::failed)?;
    let payments = recorder.finish().payments;
    if payments.ordered != network.payments || payments.open() > 0 {
        return Err(NoFigure::Failed(format!("of {} payments not all ended: {payments:?}", network.payments)));
    }
    if payments.success_per_mille().is_none_or(|paid| paid < PAID_PER_MILLE) {
        return Err(NoFigure::Failed(format!("too few payments were paid: {payments:?}")));
    }
    Ok(Paid {
        nodes: case.nodes.len(),
        friendships: case.friendships.len(),
        ordered: payments.ordered,
        paid: payments.paid,
        events: run.counts().events,
        set_up_seconds: draw_seconds + set_up_seconds,
        run_seconds,
    })
}

/// Nodes that do nothing, with friends or without.
fn idle_case(nodes: u32, friends: Friends) -> Result<Case, NoFigure> {
    let shape = Shape::ErdosRenyi { degree: 3 };
    let network = Network { shape, nodes, payments: 0, per_second: 1, seed: 1 };
    let mut case = network.case().map_err(NoFigure::failed)?;
    if friends == Friends::None {
        case.friendships = Vec::new();
    }
    Ok(case)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Friends {
    None,
    Three,
}

/// A world that is set up and has stood for a simulated minute.
fn held<'c>(case: &'c Case) -> Result<Run<'c>, NoFigure> {
    let mut run = Run::new(case, &Options::large()).map_err(NoFigure::failed)?;
    let minute = Instant::ZERO + Duration::from_secs(60);
    run.run_until(minute, &mut |_| {}).map_err(NoFigure::failed)?;
    Ok(run)
}

pub(super) fn idle(size: Size) -> Answer {
    let nodes = size.nodes(200_000);
    let (alone_case, friends_case) = (idle_case(nodes, Friends::None)?, idle_case(nodes, Friends::Three)?);
    let ends = 2 * friends_case.friendships.len();
    // Both worlds are there at the same time, so that neither uses what the other gave back.
    let empty = memory_now();
    let alone = held(&alone_case)?;
    let with_nodes = memory_now();
    let befriended = held(&friends_case)?;
    let with_both = memory_now();
    if empty == 0 {
        return Err(NoFigure::Skipped("this system does not tell how much memory a process holds".to_owned()));
    }
    let bytes_alone = with_nodes.saturating_sub(empty) as f64;
    let bytes_befriended = with_both.saturating_sub(with_nodes) as f64;
    drop((alone, befriended));
    if bytes_alone <= 0.0 || bytes_befriended <= bytes_alone {
        return Err(NoFigure::Failed("the second world used memory that the first gave back".to_owned()));
    }
    let mut measured = Measured::default();
    measured.value("idle node", bytes_alone / f64::from(nodes));
    measured.value("friendship end", (bytes_befriended - bytes_alone) / ends as f64);
    let whole = bytes_befriended / f64::from(nodes);
    measured
        .note(format!("{nodes} nodes without friends, then with {ends} ends: {whole:.0} bytes a node with its ends"));
    Ok(measured)
}

pub(super) fn idle_1m(size: Size) -> Answer {
    let nodes = size.nodes(1_000_000);
    let (run, seconds) = timed(|| {
        let case = idle_case(nodes, Friends::Three)?;
        let mut run = held(&case)?;
        run.carry_on_to_the_end(&mut |_| {}).map_err(NoFigure::failed)
    });
    let outcome = run?;
    let mut measured = Measured::default();
    measured.value("nodes held", f64::from(nodes));
    measured.value("peak memory", told_peak()? / GIB);
    let simulated = outcome.simulated.as_micros() / 1_000_000;
    measured.note(format!(
        "{nodes} nodes stood for {simulated} simulated seconds, and all was right at the end; {seconds:.0} s"
    ));
    Ok(measured)
}
