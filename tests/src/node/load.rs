//! Real programs in a line of three over one relay: `stdemo load`, judged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::figures::{Figure, Goal, quantile};
use crate::programs::program;

/// Payments in flight, how many are made, and the least of them a second.
const LOADS: [(u32, u32, Goal); 4] = [
    (1, 500, Goal::None),
    (32, 4_000, Goal::AtLeast(1_500.0)),
    (64, 4_000, Goal::AtLeast(2_000.0)),
    (512, 8_000, Goal::AtLeast(2_000.0)),
];
const KIB: f64 = 1_024.0;
/// What a payment may take beyond its flushes.
const BESIDES_MS: f64 = 5.0;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let flush_ms = flush_ms()?;
    let mut figures = Vec::new();
    for (in_flight, payments, rate) in LOADS {
        let load = Load::run(in_flight, payments)?;
        figures.extend(load.figures(flush_ms, rate)?);
    }
    Ok(figures)
}

/// What `stdemo load --json` printed.
struct Load {
    in_flight: u32,
    payments: f64,
    printed: Value,
}

impl Load {
    fn run(in_flight: u32, payments: u32) -> Result<Load> {
        let mut demo = Command::new(program("stdemo"));
        demo.args(["load", "--nodes", "3", "--json"]);
        demo.args(["--payments", &payments.to_string(), "--in-flight", &in_flight.to_string()]);
        let output = demo.output().context("stdemo")?;
        if !output.status.success() {
            bail!("stdemo load failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Load { in_flight, payments: payments.into(), printed: serde_json::from_slice(&output.stdout)? })
    }

    fn number(&self, pointer: &str) -> Result<f64> {
        let value = self.printed.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("stdemo load says no {pointer}"))
    }

    /// Milliseconds of CPU of all programs, and of each.
    fn cpu_ms(&self) -> (f64, String) {
        let programs = self.printed["cpu_s"].as_object().into_iter().flatten();
        let each = programs.map(|(name, seconds)| (name, seconds.as_f64().unwrap_or(f64::NAN) * 1e3 / self.payments));
        let each: Vec<_> = each.collect();
        let total = each.iter().map(|(_, ms)| ms).sum();
        (total, each.iter().map(|(name, ms)| format!("{name} {ms:.2}")).collect::<Vec<_>>().join(", "))
    }

    fn figures(&self, flush_ms: f64, rate: Goal) -> Result<Vec<Figure>> {
        let alone = self.in_flight == 1;
        let name = |what: &str| format!("{what}, {} in flight", self.in_flight);
        let (p50, p99) = (self.number("/latency_ms/p50")?, self.number("/latency_ms/p99")?);
        let flushes = self.number("/flushes_per_payment")?;
        let busy = |goal: f64| if self.in_flight == 32 { Goal::AtMost(goal) } else { Goal::None };
        let of_alone = |goal: f64| if alone { Goal::AtMost(goal) } else { Goal::None };
        let (cpu_ms, each) = self.cpu_ms();
        let ready = format!("payments possible {:.2} s after the first program's start", self.number("/ready_s")?);
        let mut figures = vec![
            Figure::new(name("payments"), self.number("/payments_per_s")?, "/s", rate, ready),
            Figure::new(
                name("latency p50"),
                p50,
                "ms",
                of_alone(flushes * flush_ms + BESIDES_MS),
                format!("p99 {p99:.1} ms; {flushes:.2} flushes a payment at all nodes, {flush_ms:.2} ms each"),
            ),
            Figure::new(name("CPU of a payment"), cpu_ms, "ms", busy(1.0), each),
        ];
        let relay = 2.0 * self.number("/wire_bytes_per_payment_hop")? / KIB;
        let relay_goal = if alone { of_alone(8.0) } else { busy(3.0) };
        figures.push(Figure::new(name("bytes through the relay"), relay, "KiB/payment", relay_goal, ""));
        let (disk, records) = (self.number("/disk_bytes_per_payment")?, self.number("/db_bytes_per_payment")?);
        let most = self.number("/most_disk_bytes_per_payment")?;
        let note = "of the one of three databases that wrote most";
        figures.push(Figure::new(name("bytes to the disk"), most / KIB, "KiB/payment", Goal::AtMost(8.0), note));
        let note = format!("{:.1} KiB of records", records / KIB);
        figures.push(Figure::new(name("the same, all three"), disk / KIB, "KiB/payment", Goal::None, note));
        let growth = self.number("/growth_per_payment")?;
        let note = "of the largest of three databases";
        figures.push(Figure::new(name("growth of a database"), growth / KIB, "KiB/payment", Goal::AtMost(1.0), note));
        if alone {
            let ready = self.number("/ready_s")?;
            figures.push(Figure::new("start until payments are possible", ready, "s", Goal::AtMost(1.0), ""));
        }
        Ok(figures)
    }
}

/// What a flush of a page takes here, the median, in milliseconds.
fn flush_ms() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = File::create(folder.path().join("flush"))?;
    file.set_len(1 << 20)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for round in 0..200_u64 {
        file.write_all_at(&[round as u8; 4_096], round % 256 * 4_096)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(quantile(&mut times, 0.5))
}
