//! How far a run is, on one line of the terminal; nothing where there is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::execute::peak_memory;
use crate::case::Case;
use crate::result::Live;
use crate::scenario::field::{NEVER, show_time};

/// The line is drawn anew this often, and limits are looked at. Chosen freely: as often as an eye follows.
const EVERY: Duration = Duration::from_millis(200);

/// What a run may take, in microseconds and MiB; [`NEVER`]: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) wall_us: u64,
    pub(super) memory_mib: u64,
}

/// Looks on while a run runs; ends the whole program if it takes more than it may.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watcher {
    pub(super) fn start(case: &Case, live: Arc<Live>, limits: Limits) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, heal_at) = (Arc::clone(&stop), case.heal_at.as_micros().max(1));
        let name = format!("{} seed {}", case.scenario, case.seed);
        let thread = thread::spawn(move || {
            let began = Instant::now();
            let bar = bar(heal_at);
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(EVERY);
                let spent = began.elapsed();
                if let Some(what) = exceeded(&limits, spent) {
                    bar.finish_and_clear();
                    drop(writeln!(std::io::stderr(), "resource limit: {name} took {what}"));
                    std::process::exit(7);
                }
                draw(&bar, &live, spent);
            }
            bar.finish_and_clear();
        });
        Watcher { stop, thread }
    }

    /// Stops looking, and clears the line.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // It only draws: what became of it does not matter.
        drop(self.thread.join());
    }
}

fn exceeded(limits: &Limits, spent: Duration) -> Option<String> {
    if limits.wall_us != NEVER && spent.as_micros() > limits.wall_us.into() {
        return Some(format!("more than {} of wall time", show_time(limits.wall_us)));
    }
    let memory = peak_memory() >> 20;
    (limits.memory_mib != NEVER && memory > limits.memory_mib)
        .then(|| format!("{memory} MiB of memory, {} allowed", limits.memory_mib))
}

fn bar(heal_at: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:20} {msg}");
    ProgressBar::new(heal_at).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn draw(bar: &ProgressBar, live: &Live, spent: Duration) {
    let look = live.look();
    let (now, wall) = (look.now.as_micros(), spent.as_secs_f64().max(0.001));
    let heal_at = bar.length().unwrap_or(1);
    bar.set_position(now.min(heal_at));
    // After healing nobody knows how long it takes until everything is settled.
    let left = if now == 0 || now >= heal_at { None } else { Some(wall * (heal_at - now) as f64 / now as f64) };
    let left = left.map_or_else(|| "settling".to_owned(), |left| format!("{left:.0} s left"));
    let virtual_s = now as f64 / 1e6;
    bar.set_message(format!(
        "{virtual_s:.1} s simulated, {:.0}x real, {}/s, payments {} ok {} failed {} open, {} faults, {}, {left}",
        virtual_s / wall,
        HumanCount((look.events as f64 / wall) as u64),
        look.paid,
        look.failed,
        look.ordered.saturating_sub(look.paid + look.failed),
        look.faults,
        HumanBytes(peak_memory()),
    ));
}

/// A line for many runs.
pub(super) fn many(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:20} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} seeds, {per_sec}, {elapsed}, {msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message("0 failed")
}
