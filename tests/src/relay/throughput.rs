//! How much a relay forwards through one tunnel for each second of its CPU, and what a message and a byte cost beside a
//! plain proxy that forwards the same channel without looking inside.
//!
//! A relay lets an identity send 64 MiB at once and 20 MiB a second after that. Each round is a tunnel between two new
//! identities and stays below 64 MiB: what is measured is forwarding, not waiting. The set-up of each round is counted too.

use std::net::TcpListener;

use anyhow::{Result, bail};

use super::process::{Process, Proxy, Relay};
use super::tunnel::{Pair, through_proxy, tunnel};
use super::{Figure, Goal};

/// Bytes of messages in one round: less than a relay lets through at once.
const ROUND_BYTES: usize = 60_000_000;
/// Rounds of each size: together seconds of CPU, which the system tells in steps of 10 ms.
const ROUNDS: usize = 12;
/// The sender writes when so many sealed bytes wait, as nodes do that have much to say.
const WRITE_BYTES: usize = 64 * 1024;

const SMALL: usize = 1_024;
const LARGE: usize = 64 * 1_024;

/// CPU seconds of one message.
#[derive(Clone, Copy)]
struct Cost {
    small_s: f64,
    large_s: f64,
}

impl Cost {
    fn byte_s(self) -> f64 {
        (self.large_s - self.small_s) / (LARGE - SMALL) as f64
    }

    fn message_s(self) -> f64 {
        self.small_s - self.byte_s() * SMALL as f64
    }
}

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start()?;
    let place = relay.place;
    let through_relay = cost(relay.process(), || tunnel(place))?;
    relay.must_run()?;
    let target = TcpListener::bind("127.0.0.1:0")?;
    let proxy = Proxy::start(target.local_addr()?)?;
    let plain = cost(proxy.process(), || through_proxy(proxy.address, &target))?;
    let rate = |size: usize, seconds: f64| size as f64 / 1e6 / seconds;
    let proxy_rates = format!(
        "the plain proxy: {:.0} MB/s with 1 KiB, {:.0} MB/s with 64 KiB",
        rate(SMALL, plain.small_s),
        rate(LARGE, plain.large_s)
    );
    let (message, byte) = (through_relay.message_s(), through_relay.byte_s());
    Ok(vec![
        Figure::new("one tunnel, 1 KiB", rate(SMALL, through_relay.small_s), "MB/CPU-s", Goal::AtLeast(150.0), ""),
        Figure::new(
            "one tunnel, 64 KiB",
            rate(LARGE, through_relay.large_s),
            "MB/CPU-s",
            Goal::AtLeast(450.0),
            proxy_rates,
        ),
        Figure::new(
            "a message through the relay",
            message * 1e6,
            "CPU-us",
            Goal::None,
            format!("the plain proxy: {:.3} CPU-us", plain.message_s() * 1e6),
        ),
        Figure::new(
            "a byte through the relay",
            byte * 1e9,
            "CPU-ns",
            Goal::None,
            format!("the plain proxy: {:.3} CPU-ns", plain.byte_s() * 1e9),
        ),
    ])
}

fn cost(process: Process, mut pair: impl FnMut() -> Result<Pair>) -> Result<Cost> {
    let mut of_size = |size: usize| -> Result<f64> {
        let count = ROUND_BYTES / size;
        send(pair()?, size, count / 10)?;
        let before = process.cpu_s()?;
        for _ in 0..ROUNDS {
            send(pair()?, size, count)?;
        }
        Ok((process.cpu_s()? - before) / (ROUNDS * count) as f64)
    };
    Ok(Cost { small_s: of_size(SMALL)?, large_s: of_size(LARGE)? })
}

/// Sends `count` messages of `size` bytes from one to the other, and checks that they arrive whole and in order.
fn send(pair: Pair, size: usize, count: usize) -> Result<()> {
    let Pair { mut caller, mut callee } = pair;
    let message = |number: usize| -> Vec<u8> {
        let mut message = vec![0x5a; size];
        message[..8].copy_from_slice(&(number as u64).to_be_bytes());
        message
    };
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let mut bytes = message(0);
            for number in 0..count {
                bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
                if caller.seal(&bytes)? >= WRITE_BYTES {
                    caller.write()?;
                }
            }
            caller.write()?;
            // Kept open until the other end has everything.
            caller.receive().map(drop)
        });
        for number in 0..count {
            if callee.receive()? != message(number) {
                bail!("message {number} of {size} bytes arrived changed");
            }
        }
        callee.send(b"all here")?;
        sending.join().unwrap_or_else(|_| bail!("the sender's thread broke"))
    })
}
