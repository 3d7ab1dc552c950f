//! Bytes on their way into the socket: many messages are sealed behind each other and leave in one write.

use std::io::{self, Write};
use std::net::TcpStream;
use std::task::{Context, Poll, ready};

use offset_protocol::machine::{Duration, Instant};
use smol::Async;

/// Sealed bytes that may wait for the socket before no more messages are taken. Chosen freely: what a fast link holds.
pub(super) const WIRE_BYTES: usize = 256 * 1024;
/// What a peer can make the channel itself say (keepalives, fresh keys) on top, without reading any of it.
pub(super) const WIRE_SLACK: usize = 128 * 1024;
/// An empty buffer that has grown beyond this is given back at once; the rest of it when the connection has been idle for a
/// while. As much as a busy connection uses again and again: growing it anew each time costs a copy of what is in it.
const KEPT: usize = WIRE_BYTES + WIRE_SLACK;

/// What a peer must take of what waits for it, in each time in which it may stall. Chosen freely: a thousandth of what a
/// slow line carries, and enough that who takes a byte now and then does not hold our memory for ever.
pub(super) const LEAST_DRAIN_PER_S: usize = 1_024;

/// Whether a peer takes what waits for it, and fast enough.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Since when something has waited all the time.
    waits_since: Option<Instant>,
    /// Since when [`LEAST_DRAIN_PER_S`] is counted, and what was taken since.
    counted: Option<(Instant, usize)>,
}

impl Drain {
    /// So much was taken, and so much still waits.
    pub(super) fn on_written(&mut self, now: Instant, written: usize, waiting: usize, stall: Duration) {
        if waiting == 0 {
            *self = Drain::default();
            return;
        }
        self.waits_since = self.waits_since.or(Some(now));
        let (since, before) = self.counted.unwrap_or((now, 0));
        let enough =
            usize::try_from(stall.as_micros() / 1_000_000).unwrap_or(usize::MAX).saturating_mul(LEAST_DRAIN_PER_S);
        let taken = before + written;
        self.counted = Some(if taken >= enough { (now, 0) } else { (since, taken) });
    }

    /// Since when something has waited all the time; `None` if nothing waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// When the peer will have taken too little.
    pub(super) fn stalled_at(&self, stall: Duration) -> Option<Instant> {
        self.counted.map(|(since, _)| since + stall)
    }
}

/// Sealed bytes, some of them sent.
#[derive(Debug, Default)]
pub(super) struct Wire {
    bytes: Vec<u8>,
    sent: usize,
}

impl Wire {
    /// Where a channel appends.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that are not sent yet.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len().saturating_sub(self.sent)
    }

    /// Bytes of memory that it takes.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back all memory if nothing waits: an idle connection holds none.
    pub(super) fn release(&mut self) {
        if self.waiting() == 0 {
            *self = Wire::default();
        }
    }

    /// Writes what waits, or part of it. The number of bytes written, more than zero if any waited.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, stream: &Async<TcpStream>) -> Poll<io::Result<usize>> {
        loop {
            let left = self.bytes.get(self.sent..).unwrap_or_default();
            if left.is_empty() {
                return Poll::Ready(Ok(0));
            }
            match stream.get_ref().write(left) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.sent += written;
                    self.compact();
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_writable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Forgets what was sent once that is more than half of the buffer, so that moving the rest costs less than sending did.
    fn compact(&mut self) {
        let waiting = self.waiting();
        if self.sent < waiting {
            return;
        }
        self.bytes.drain(..self.sent);
        self.sent = 0;
        if waiting == 0 {
            self.bytes.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(40);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn who_takes_a_little_now_and_then_has_stalled_as_who_takes_nothing() {
        let mut drain = Drain::default();
        drain.on_written(at(1), 0, 500_000, STALL);
        for second in 2..41 {
            drain.on_written(at(second), 1_000, 400_000, STALL);
            assert_eq!(drain.stalled_at(STALL), Some(at(41)));
        }
    }

    #[test]
    fn who_takes_enough_or_all_has_not() {
        let mut drain = Drain::default();
        drain.on_written(at(1), 0, 500_000, STALL);
        drain.on_written(at(30), 40 * LEAST_DRAIN_PER_S, 400_000, STALL);
        assert_eq!((drain.stalled_at(STALL), drain.waits_since()), (Some(at(70)), Some(at(1))));
        drain.on_written(at(31), 400_000, 0, STALL);
        assert_eq!((drain.stalled_at(STALL), drain.waits_since()), (None, None));
    }
}
