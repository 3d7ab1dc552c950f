//! How much memory somebody can make a relay hold with one connection without proving who it is.
//!
//! A relay lets 1,024 handshakes be in progress at once, 256 from one address, each for 5 s: 1,000 connections from four
//! addresses, each with the trick below, and then the growth of the relay's resident memory by connection. What the system
//! itself holds for a socket is not in it.
//!
//! | trick | what is sent |
//! |---|---|
//! | little | the announcement of the longest frame that a handshake may have, and ten bytes of it |
//! | first | the announcement, and all of it but the last byte |
//! | third | a real first frame; after the answer to it, as `first` with what is left of the 8 KiB |
//!
//! A frame longer than that is refused as soon as it is announced, which is checked too.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use offset_protocol::channel::SecureChannel;
use offset_protocol::limits::MAX_HANDSHAKE;
use offset_protocol::machine::Instant;

use super::client::{PATIENCE, Place, Who, connect, is_quiet};
use super::process::Relay;
use super::tunnel::tunnel;
use super::{Figure, Goal};

const ADDRESSES: u8 = 4;
/// One address may have 256 handshakes in progress.
const PER_ADDRESS: usize = 250;
/// Bytes of the length in front of a frame.
const LENGTH: usize = 2;
/// How long the relay gets to read what was sent; well within a handshake's 5 s.
const REST: Duration = Duration::from_millis(1_000);

#[derive(Clone, Copy, Debug)]
enum Trick {
    Little,
    First,
    Third,
}

pub(super) fn measure() -> Result<Vec<Figure>> {
    must_refuse_longer()?;
    let mut most = ("", 0.0);
    let mut notes = Vec::new();
    for (name, trick) in [("little", Trick::Little), ("first", Trick::First), ("third", Trick::Third)] {
        let kib = kib_each(trick)?;
        notes.push(format!("{name} {kib:.1}"));
        if kib >= most.1 {
            most = (name, kib);
        }
    }
    let note = format!("the worst trick is `{}`; KiB by trick: {}", most.0, notes.join(", "));
    Ok(vec![Figure::new("memory of a connection without identity", most.1, "KiB", Goal::AtMost(16.0), note)])
}

/// On a relay of its own, so that no memory of an earlier trick is there to be used again.
fn kib_each(trick: Trick) -> Result<f64> {
    let mut relay = Relay::start()?;
    // What a relay allocates once is not a stranger's doing.
    drop(tunnel(relay.place)?);
    std::thread::sleep(REST);
    let before = relay.process().resident_bytes()?;
    let mut streams = Vec::new();
    for address in 1..=ADDRESSES {
        for _ in 0..PER_ADDRESS {
            streams.push(play(relay.place, Ipv4Addr::new(127, 0, 3, address), trick)?);
        }
    }
    std::thread::sleep(REST);
    let after = relay.process().resident_bytes()?;
    let held = streams.iter().filter(|stream| is_quiet(stream)).count();
    if held < streams.len() {
        bail!("the relay closed {} of {} connections before the time", streams.len() - held, streams.len());
    }
    relay.must_run()?;
    Ok(after.saturating_sub(before) as f64 / 1024.0 / held as f64)
}

fn play(place: Place, from: Ipv4Addr, trick: Trick) -> Result<TcpStream> {
    let mut stream = connect(place.address, from)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let longest = MAX_HANDSHAKE - LENGTH;
    match trick {
        Trick::Little => announce(&mut stream, longest, 10)?,
        Trick::First => announce(&mut stream, longest, longest - 1)?,
        Trick::Third => {
            let mut first = Vec::new();
            let mut channel = SecureChannel::initiator(Who::fresh().channel(), place.key, Instant::ZERO);
            channel.start(Instant::ZERO, &mut first);
            stream.write_all(&first)?;
            let mut answer = [0; LENGTH];
            stream.read_exact(&mut answer).context("no answer to a first frame")?;
            let answer = usize::from(u16::from_be_bytes(answer));
            stream.read_exact(&mut vec![0; answer])?;
            // What both ends have said counts.
            let left = longest - first.len() - LENGTH - answer;
            announce(&mut stream, left, left - 1)?;
        }
    }
    Ok(stream)
}

/// Announces a frame of `length` bytes and sends `sent` of them.
fn announce(stream: &mut TcpStream, length: usize, sent: usize) -> Result<()> {
    let mut bytes = u16::try_from(length)?.to_be_bytes().to_vec();
    bytes.resize(LENGTH + sent, 0);
    Ok(stream.write_all(&bytes)?)
}

fn must_refuse_longer() -> Result<()> {
    let relay = Relay::start()?;
    for length in [MAX_HANDSHAKE - LENGTH + 1, usize::from(u16::MAX)] {
        let mut stream = connect(relay.place.address, Ipv4Addr::LOCALHOST)?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        announce(&mut stream, length, 10)?;
        // An end or a reset: both are a refusal. Nothing in time is not.
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => bail!("a frame of {length} bytes was not refused at once: {other:?}"),
        }
    }
    Ok(())
}
