//! A friend that says without end what its victim has to check: signed batches, as fast as the relay takes them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use offset_protocol::bytes::{PublicKey, ResetToken};
use offset_protocol::channel::{ChannelEvent, SecureChannel};
use offset_protocol::codec::encode;
use offset_protocol::friend::{
    Batch, Body, FriendMessage, Header, Resume, batch_hash, body_hash, genesis_head, next_head, totals_hash,
};
use offset_protocol::machine::Instant;
use offset_protocol::net::Purpose;
use offset_protocol::relay::{FromRelay, RelayAddress, ToRelay};

use crate::relay::client::{Client, Place, Who};

/// A flood that goes on until it is dropped, or until its victim ends the link.
pub struct Flood {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Who floods: the victim has to know it as a friend.
    pub fn key() -> PublicKey {
        who().key()
    }

    /// Calls the victim at its relay and begins.
    ///
    /// # Errors
    /// If it does not come to a link.
    pub fn start(relay: &RelayAddress, victim: PublicKey) -> Result<Flood> {
        let mut link = Link::open(relay, victim)?;
        let zeros = ResetToken([0; 32]);
        let theirs = genesis_head(&victim, &Flood::key(), 0, &zeros);
        link.say(&FriendMessage::Resume(Resume { epoch: 0, in_seq: 0, in_head: theirs, out_seq: 0 }))?;
        let message = FriendMessage::Batch(batch(victim));
        let (stop, said) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counter) = (stop.clone(), said.clone());
        let thread = std::thread::spawn(move || {
            // The first is applied, and each further one checked all the same.
            while !stopped.load(Relaxed) && link.say(&message).is_ok() {
                counter.fetch_add(1, Relaxed);
            }
        });
        Ok(Flood { stop, said, thread: Some(thread) })
    }

    /// Batches so far.
    pub fn said(&self) -> u64 {
        self.said.load(Relaxed)
    }

    /// Whether the victim still listens.
    pub fn goes_on(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // It broke: whoever asked has seen that it does not go on.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn who() -> Who {
    Who::number(77)
}

/// Our first batch of a new friendship, with nothing in it.
fn batch(victim: PublicKey) -> Batch {
    let (us, zeros) = (Flood::key(), ResetToken([0; 32]));
    let body = encode(&Body::default());
    let body_hash = body_hash(&body);
    let header = encode(&Header {
        epoch: 0,
        seq: 1,
        ack: 0,
        body_hash,
        head: next_head(&genesis_head(&us, &victim, 0, &zeros), &body_hash),
        friend_head: genesis_head(&victim, &us, 0, &zeros),
        totals_hash: totals_hash(&[]),
    });
    let signature = who().signer().sign(&batch_hash(&us, &victim, &header));
    Batch { header: header.try_into().unwrap_or_default(), body: body.try_into().unwrap_or_default(), signature }
}

/// The end-to-end channel in a tunnel of the relay.
struct Link {
    tunnel: Client,
    channel: SecureChannel,
}

impl Link {
    fn open(relay: &RelayAddress, victim: PublicKey) -> Result<Link> {
        let place = Place { address: relay.address.as_str().parse()?, key: relay.public_key };
        let mut tunnel = Client::open(place, Ipv4Addr::LOCALHOST, &who())?;
        tunnel.tell(&ToRelay::Connect { to: victim })?;
        tunnel.expect(&FromRelay::Ready)?;
        let mut channel = SecureChannel::initiator(who().channel_for(Purpose::Friend), victim, Instant::ZERO);
        let mut wire = Vec::new();
        channel.start(Instant::ZERO, &mut wire);
        tunnel.send(&wire)?;
        loop {
            let heard = tunnel.receive().context("the victim does not shake hands")?;
            let mut wire = Vec::new();
            channel.receive(Instant::ZERO, &heard, &mut wire);
            if !wire.is_empty() {
                tunnel.send(&wire)?;
            }
            match channel.poll_event() {
                Some(ChannelEvent::Opened { .. }) => return Ok(Link { tunnel, channel }),
                Some(ChannelEvent::Closed(reason)) => bail!("no link: {reason}"),
                Some(ChannelEvent::Identified { .. } | ChannelEvent::Message(_)) | None => {}
            }
        }
    }

    /// Says something; what the victim says stays unread.
    fn say(&mut self, message: &FriendMessage) -> Result<()> {
        let mut wire = Vec::new();
        self.channel.send(Instant::ZERO, &encode(message), &mut wire)?;
        self.tunnel.send(&wire)
    }
}
