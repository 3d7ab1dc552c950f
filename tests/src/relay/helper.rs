//! What the helper processes do.
//!
//! | role | what it does |
//! |---|---|
//! | `proxy TARGET` | forwards bytes of every connection to `TARGET` and back: two threads a connection, 64 KiB at once, nothing else |
//! | `nodes ADDRESS KEY COUNT` | runs `COUNT` nodes that want to listen at a relay, whatever becomes of it |
//! | `listeners ADDRESS KEY FIRST COUNT` | holds `COUNT` nodes that listen at a relay, and keeps them alive |

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Place, Who};
use super::process::say;
use super::restart;

/// Bytes that the proxy reads at once: as many as the relay.
const PROXY_BYTES: usize = 64 * 1024;
/// Listeners from one loopback address: fewer than a relay lets come from one at once, 2,000, as they come as fast as they can.
const PER_ADDRESS: u64 = 500;
/// How often listeners look after their connections.
const SERVE_EVERY: Duration = Duration::from_secs(5);

/// Runs a role until stdin ends.
///
/// # Errors
/// If the role is unknown or fails.
pub fn helper(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["proxy", target] => proxy(target.parse()?),
        ["listeners", address, key, first, count] => {
            let place = Place { address: address.parse()?, key: key.parse()? };
            listeners(place, first.parse()?, count.parse()?)
        }
        ["nodes", address, key, count] => {
            restart::nodes(Place { address: address.parse()?, key: key.parse()? }, count.parse()?)
        }
        _ => bail!("a helper of the bench, not for people"),
    }
}

fn wait_for_end() -> Result<()> {
    // What comes is of no interest, only that nothing more will.
    std::io::stdin().lock().read_to_end(&mut Vec::new()).context("stdin")?;
    Ok(())
}

fn proxy(target: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    say("listening", listener.local_addr()?)?;
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            // A connection that cannot be made ends; its caller sees that.
            let _ = forward_both(caller, target);
        }
    });
    wait_for_end()
}

fn forward_both(caller: TcpStream, target: SocketAddr) -> Result<()> {
    let callee = TcpStream::connect(target)?;
    for (from, to) in [(&caller, &callee), (&callee, &caller)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || forward(from, to));
    }
    Ok(())
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; PROXY_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
            break;
        }
    }
    // The other thread sees the end; a socket that is gone needs none.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn listeners(place: Place, first: u64, count: u64) -> Result<()> {
    let mut clients: Vec<Client> = Vec::new();
    let mut served = Instant::now();
    for number in first..first + count {
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number / PER_ADDRESS)? + 1);
        let who = Who::number(number);
        let client = Client::open(place, from, &who).with_context(|| format!("listener {number} cannot connect"))?;
        clients.push(client);
        if let Some(client) = clients.last_mut() {
            client.listen().with_context(|| format!("listener {number}"))?;
        }
        if served.elapsed() > SERVE_EVERY {
            served = Instant::now();
            alive(&mut clients);
        }
    }
    say("ready", clients.len())?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let waited = wait_for_end();
            ended.store(true, Relaxed);
            waited
        });
        while !ended.load(Relaxed) {
            alive(&mut clients);
            // Short, so that the end is seen soon.
            let until = Instant::now() + SERVE_EVERY;
            while !ended.load(Relaxed) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        waiting.join().unwrap_or_else(|_| bail!("the thread that waits for the end broke"))
    })?;
    say("alive", alive(&mut clients))
}

/// Looks after all connections. How many are still there.
fn alive(clients: &mut [Client]) -> usize {
    clients.iter_mut().map(Client::serve).filter(|alive| *alive).count()
}
