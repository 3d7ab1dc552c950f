//! One direction of a link: send buffer, flight, receive buffer.

use std::collections::VecDeque;

use offset_protocol::machine::{Duration, Instant};

use super::in_order;

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    /// Nothing more will come.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    unsent: VecDeque<u8>,
    /// In order of arrival.
    flight: VecDeque<(Instant, Segment)>,
    flight_bytes: usize,
    received: VecDeque<u8>,
    /// The end has arrived.
    pub(super) ended: bool,
    finish: Finish,
    /// The writer wrote less than it wanted.
    pub(super) writer_waits: bool,
    /// News of room are on their way to the writer.
    pub(super) window_told: bool,
    /// Something that was due could not arrive.
    pub(super) stalled: bool,
    last_arrival: Instant,
    /// When the last segment has left the sender.
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Finish {
    #[default]
    No,
    Wanted,
    Sent,
}

impl Flow {
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Bytes that the receiver has not read yet, wherever they are.
    pub(super) fn under_way(&self) -> usize {
        self.flight_bytes + self.received.len()
    }

    pub(super) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.finish == Finish::No {
            self.unsent.extend(bytes);
        }
    }

    pub(super) fn finish(&mut self) {
        if self.finish == Finish::No {
            self.finish = Finish::Wanted;
        }
    }

    /// The next segment to be sent, of at most `most` bytes.
    pub(super) fn next_segment(&mut self, most: usize) -> Option<Segment> {
        if most > 0 && !self.unsent.is_empty() {
            let most = most.min(self.unsent.len());
            return Some(Segment::Bytes(take_front(&mut self.unsent, most)));
        }
        if self.unsent.is_empty() && self.finish == Finish::Wanted {
            self.finish = Finish::Sent;
            return Some(Segment::End);
        }
        None
    }

    /// Puts a segment on its way; gives when it arrives, unless it arrives together with the one before it.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        sending: Duration,
        latency: Duration,
        segment: Segment,
    ) -> Option<Instant> {
        self.sent_at = in_order(self.sent_at, now) + sending;
        self.last_arrival = in_order(self.last_arrival, self.sent_at + latency);
        if let Segment::Bytes(bytes) = &segment {
            self.flight_bytes += bytes.len();
        }
        // What could not arrive comes again at a time of its own.
        let together = !self.stalled && self.flight.back().is_some_and(|(due, _)| *due == self.last_arrival);
        self.flight.push_back((self.last_arrival, segment));
        (!together).then_some(self.last_arrival)
    }

    /// Receives what is due; gives how much of it there was, the end counting as one.
    pub(super) fn arrive(&mut self, now: Instant) -> usize {
        let mut arrived = 0;
        while self.flight.front().is_some_and(|(due, _)| *due <= now) {
            match self.flight.pop_front() {
                Some((_, Segment::Bytes(bytes))) => {
                    self.flight_bytes -= bytes.len();
                    arrived += bytes.len();
                    self.receive(bytes);
                }
                Some((_, Segment::End)) => {
                    self.ended = true;
                    arrived += 1;
                }
                None => {}
            }
        }
        arrived
    }

    fn receive(&mut self, bytes: Vec<u8>) {
        if self.received.is_empty() {
            // As a rule the reader has read everything: what arrives is not copied then.
            self.received = bytes.into();
        } else {
            self.received.extend(&bytes);
        }
    }

    pub(super) fn read(&mut self, most: usize) -> Vec<u8> {
        let most = most.min(self.received.len());
        take_front(&mut self.received, most)
    }

    pub(super) fn drop_received(&mut self) {
        self.received.clear();
    }

    /// Nothing that has not left yet will ever leave.
    pub(super) fn drop_unsent(&mut self) {
        self.unsent.clear();
        self.finish = Finish::Sent;
    }

    /// What could not arrive arrives at `at` or later.
    pub(super) fn restart(&mut self, at: Instant) {
        self.stalled = false;
        for (due, _) in &mut self.flight {
            *due = in_order(at, *due);
        }
        self.last_arrival = in_order(at, self.last_arrival);
    }
}

/// Takes the first `count` bytes out, in whole slices: byte by byte it would be a tenth of a run.
fn take_front(bytes: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    if count == bytes.len() {
        return std::mem::take(bytes).into();
    }
    let (front, back) = bytes.as_slices();
    let mut taken = Vec::with_capacity(count);
    taken.extend_from_slice(&front[..count.min(front.len())]);
    taken.extend_from_slice(&back[..count - taken.len()]);
    bytes.drain(..count);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_order_wherever_they_lie() {
        for begins in 0..40 {
            let mut bytes: VecDeque<u8> = VecDeque::with_capacity(32);
            // Moves the beginning, so that what follows wraps around.
            bytes.extend(std::iter::repeat_n(0, begins));
            bytes.drain(..);
            bytes.extend(0..30);
            let first = take_front(&mut bytes, 11);
            bytes.extend(30..41);
            let rest = take_front(&mut bytes, 25);
            let last = take_front(&mut bytes, 5);
            assert!([first, rest, last].concat().into_iter().eq(0..41));
            assert!(bytes.is_empty() && take_front(&mut bytes, 0).is_empty());
        }
    }
}
