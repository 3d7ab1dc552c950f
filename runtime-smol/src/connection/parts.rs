//! What a connection is made of, and what it is told and tells.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use offset_protocol::bytes::PublicKey;
use offset_protocol::channel::SecureChannel;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::{Address, ConnId, NetEvent, Purpose};
use smol::Async;

use super::checks::ADDRESS_CHECK_RATE;
use super::rate::{Bucket, Buckets};
use super::{Budget, Handed, Mail, NetCounters};
use crate::clock::Clock;
use crate::gate::Ticket;

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whence {
    /// The connection.
    pub conn: ConnId,
    /// What it is for.
    pub purpose: Purpose,
    /// Who is at its other end, proven.
    pub peer: PublicKey,
}

/// Where a connection's events go.
pub trait Outlet: Send + Sync {
    /// A message in `slot`, if there is room; else it stays there and the task is woken later. Says what was done with it.
    fn poll_message(&self, cx: &mut Context<'_>, from: &Whence, slot: &mut Option<Vec<u8>>) -> Poll<Handed>;

    /// `Opened` or `Closed`. Never waits.
    fn event(&self, event: NetEvent);

    /// A peer has proven its identity; `mail` reaches its task.
    fn incoming(&self, mail: Arc<Mail>, event: NetEvent);

    /// A join of `a` and `b` ended.
    fn join_ended(&self, a: ConnId, b: ConnId);
}

/// How much of a peer is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Whatever it says, as fast as there is room.
    Freely,
    /// One message; the next after [`Mail::resume`].
    OneByOne,
}

/// What one connection may take.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// A peer that takes too little for this long, while something waits for it, is gone.
    pub(crate) stall: Duration,
    /// What it holds is counted here.
    pub(crate) budget: Budget,
    /// What looking at messages may cost, for each address; see [`super::checks`].
    pub(crate) checks: Arc<Mutex<Buckets<Address>>>,
}

impl Bounds {
    /// What looking at messages of this address may cost.
    pub(crate) fn checks_of(&self, address: &Address, now: Instant) -> Arc<Bucket> {
        // No code that can panic runs under the lock.
        let mut buckets = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.of(address, ADDRESS_CHECK_RATE, now)
    }
}

/// Who opened a connection.
#[derive(Debug)]
pub(crate) enum Opening {
    /// We did: the outlet knows of it already.
    Ours { purpose: Purpose },
    /// The peer did: the outlet hears of it when the peer has proven who it is.
    Theirs {
        purpose: Purpose,
        from: Address,
        /// Its place among the handshakes, until it is admitted.
        ticket: Ticket,
    },
}

/// What a connection's task is made of.
pub(crate) struct Parts {
    pub(crate) conn: ConnId,
    pub(crate) stream: Async<TcpStream>,
    pub(crate) channel: SecureChannel,
    pub(crate) opening: Opening,
    pub(crate) reading: Reading,
    pub(crate) mail: Arc<Mail>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) counters: Arc<NetCounters>,
    pub(crate) bounds: Bounds,
    pub(crate) clock: Clock,
}
