//! A real node with many friends and a long history: how soon it serves, and how much memory it takes.
//!
//! The history is made in memory, by the same machine, and written into a database as the program would have.

use std::time::Instant;

use anyhow::{Context, Result};
use offset_protocol::files;
use offset_protocol::identity::Signer;
use offset_protocol::persist::Change;
use offset_runtime_smol::store::Store;

use super::hub::FRIENDS;
use crate::figures::{Figure, Goal};
use crate::memory::{Funders, identity};
use crate::programs::Shell;
use crate::relay::process::Process;

/// Payments that the node made, and as many that it received.
const EACH: usize = 50_000;
const IN_FLIGHT: usize = 64;
/// Starts that are measured.
const STARTS: usize = 5;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let shell = Shell::new();
    write_database(&shell)?;
    shell.write("hub.ident", files::print(&identity(0)).as_bytes());
    shell.mkdir("trusted");
    let (mut starts, mut resident) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = shell.start("stnode --database hub.db --idfile hub.ident --trusted trusted --laddr 127.0.0.1:0");
        starts.push(began.elapsed().as_secs_f64());
        resident = Process(server.id()).resident_bytes()?;
    }
    let start = crate::figures::quantile(&mut starts, 0.5);
    let bytes = std::fs::metadata(shell.path("hub.db"))?.len();
    let note = format!("median of {STARTS}; {FRIENDS} friends, {} payments, a file of {} MiB", 2 * EACH, bytes >> 20);
    Ok(vec![
        Figure::new("start of an old node", start, "s", Goal::AtMost(0.5), note),
        Figure::new(
            "its memory",
            resident as f64 / f64::from(1 << 20),
            "MiB",
            Goal::AtMost(200.0),
            "resident, just started",
        ),
    ])
}

fn write_database(shell: &Shell) -> Result<()> {
    let mut star = Funders::star(FRIENDS)?;
    for way in [vec![0, 1], vec![2, 0]] {
        star.pay_along(way);
        star.pay(EACH, IN_FLIGHT)?;
    }
    let records = star.first_records.take().context("the hub's records")?;
    let store = Store::create(&shell.path("hub.db"), identity(0).public_key())?;
    let changes = records.into_iter().map(|(key, value)| Change { key, value: Some(value) });
    Ok(store.commit(changes.collect())?)
}
