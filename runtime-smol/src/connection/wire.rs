//! Bytes on their way into the socket: many messages are sealed behind each other and leave in one write.

use std::io::{self, Write};
use std::net::TcpStream;
use std::task::{Context, Poll, ready};

use smol::Async;

/// Sealed bytes that may wait for the socket before no more messages are taken. Chosen freely: what a fast link holds.
pub(super) const WIRE_BYTES: usize = 256 * 1024;
/// What a peer can make the channel itself say (keepalives, fresh keys) on top, without reading any of it.
pub(super) const WIRE_SLACK: usize = 128 * 1024;
/// An empty buffer that has grown beyond this is given back at once; the rest of it when the connection has been idle for a
/// while. As much as a busy connection uses again and again: growing it anew each time costs a copy of what is in it.
const KEPT: usize = WIRE_BYTES + WIRE_SLACK;

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
