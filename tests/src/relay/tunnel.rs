//! Tunnels through the relay, and channels through the plain proxy, to compare them with.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use offset_protocol::relay::{FromRelay, ToRelay};

use super::client::{Client, Place, Who};

/// Two clients that hear each other.
pub(super) struct Pair {
    /// Who called.
    pub(super) caller: Client,
    /// Who was called.
    pub(super) callee: Client,
}

/// A node that waits for calls.
pub(super) struct Listener {
    who: Who,
    place: Place,
    client: Client,
}

impl Listener {
    /// Listens at the relay as a new node.
    ///
    /// # Errors
    /// If the relay does not let it.
    pub(super) fn new(place: Place) -> Result<Listener> {
        let who = Who::fresh();
        let mut client = Client::open(place, Ipv4Addr::LOCALHOST, &who).context("a listener cannot connect")?;
        client.listen()?;
        Ok(Listener { who, place, client })
    }

    /// A tunnel to this node: from the caller's first packet until both ends are ready.
    ///
    /// # Errors
    /// If any step of it fails.
    pub(super) fn call(&mut self, caller: &Who) -> Result<Pair> {
        let open = |who: &Who| Client::open(self.place, Ipv4Addr::LOCALHOST, who);
        let mut from = open(caller).context("a caller cannot connect")?;
        from.tell(&ToRelay::Connect { to: self.who.key() })?;
        self.client.expect(&FromRelay::Incoming { from: caller.key() })?;
        let mut to = open(&self.who).context("the called node cannot connect")?;
        to.tell(&ToRelay::Accept { from: caller.key() })?;
        to.expect(&FromRelay::Ready)?;
        from.expect(&FromRelay::Ready)?;
        Ok(Pair { caller: from, callee: to })
    }
}

/// A tunnel between two new nodes: what they may send has not been used up by anybody. The listener leaves.
///
/// # Errors
/// If any step of it fails.
pub(super) fn tunnel(place: Place) -> Result<Pair> {
    Listener::new(place)?.call(&Who::fresh())
}

/// Two clients joined by the plain proxy at `proxy`, which forwards to `target`. Their channel is end to end, so that each
/// of them works as much as with a relay.
///
/// # Errors
/// If the proxy does not let them through.
pub(super) fn through_proxy(proxy: SocketAddr, target: &TcpListener) -> Result<Pair> {
    let who = Who::fresh();
    let place = Place { address: proxy, key: who.key() };
    std::thread::scope(|scope| {
        let called = scope.spawn(|| Client::accept(target.accept()?.0, &who));
        let caller = Client::open(place, Ipv4Addr::LOCALHOST, &Who::fresh());
        if caller.is_err() {
            // Whoever waits to be called waits no longer.
            drop(TcpStream::connect(target.local_addr()?));
        }
        let caller = caller?;
        let callee = called.join().unwrap_or_else(|_| anyhow::bail!("the called node's thread broke"))?;
        Ok(Pair { caller, callee })
    })
}
