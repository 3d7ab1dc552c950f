//! When a connection has to do something by itself: its channel, a peer that takes too little, an idle tunnel, its end.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use offset_protocol::machine::Instant;

use super::join::JoinHalf;
use super::{Connection, Phase};

impl Connection {
    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => {
                let channel = self.parts.channel.poll_timeout().map(|alarm| alarm.at);
                let stall = self.drain.stalled_at(self.parts.bounds.stall);
                let idle = self.join.as_ref().map(JoinHalf::idle_at);
                [channel, stall, idle, self.blocked_until].into_iter().flatten().min()
            }
            Phase::Flushing { until } | Phase::Lingering { until } => Some(until),
            Phase::Done => None,
        }
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.timer_at.is_some() && Pin::new(&mut self.timer).poll(cx).is_ready() {
            self.timer_at = None;
        }
        let due = self.deadline().is_some_and(|at| at <= now);
        if !due {
            return false;
        }
        match self.phase {
            Phase::Running if self.drain.stalled_at(self.parts.bounds.stall).is_some_and(|at| at <= now) => {
                self.abandon("reads too little")
            }
            Phase::Running if self.join.as_ref().is_some_and(|join| join.idle_at() <= now) => self.begin_close(now),
            Phase::Running => {
                self.blocked_until = self.blocked_until.filter(|until| *until > now);
                self.wire.release();
                self.parts.channel.tick(now, self.wire.buffer());
                true
            }
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done => {
                self.phase = Phase::Done;
                true
            }
        }
    }

    /// Sets the timer to the next deadline. A timer that is set too early is left: it fires once for nothing, which is
    /// cheaper than moving it with every message. Whether the deadline has passed already.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.deadline() else { return false };
        if self.timer_at.is_some_and(|set| set <= at) {
            return false;
        }
        let Some(system) = self.parts.clock.system(at) else { return false };
        self.timer.set_at(system);
        self.timer_at = Some(at);
        if Pin::new(&mut self.timer).poll(cx).is_ready() {
            self.timer_at = None;
            return true;
        }
        false
    }

    /// A channel whose owner does not read must not take that for the peer's silence.
    pub(super) fn tell_channel_whether_we_read(&mut self, now: Instant) {
        let reading = self.may_read() && !self.paused && !self.waits_for_clear;
        if self.phase != Phase::Running || !self.open || reading != self.channel_paused {
            return;
        }
        self.channel_paused = !reading;
        if reading {
            self.parts.channel.resume(now);
        } else {
            self.parts.channel.pause();
        }
    }
}
