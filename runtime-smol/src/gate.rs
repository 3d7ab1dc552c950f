//! How many peers may be shaking hands at once, in all and from one address: a stranger's handshake costs us signatures
//! and memory before we know who it is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handshakes in progress, in all. Chosen freely: at 8 KiB each they hold 8 MiB.
pub const MAX_HANDSHAKES: usize = 1_024;
/// Handshakes in progress from one address. Chosen freely: a quarter of all, so that one address never keeps others out.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 256;

/// Counts handshakes.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place for a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// [`MAX_HANDSHAKES_PER_ADDRESS`] are in progress from this address.
    Address,
    /// [`MAX_HANDSHAKES`] are in progress in all.
    Total,
}

/// A place among the handshakes; given back when it is dropped, if not before.
#[derive(Debug)]
pub struct Ticket {
    gate: Gate,
    address: Option<IpAddr>,
}

impl Gate {
    /// A place for a peer at `address`.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    pub fn enter(&self, address: IpAddr) -> Result<Ticket, Full> {
        let address = site(address);
        let mut state = self.lock();
        if state.total >= MAX_HANDSHAKES {
            return Err(Full::Total);
        }
        let here = state.by_address.entry(address).or_default();
        if *here >= MAX_HANDSHAKES_PER_ADDRESS {
            return Err(Full::Address);
        }
        *here += 1;
        state.total += 1;
        Ok(Ticket { gate: self.clone(), address: Some(address) })
    }

    /// Handshakes in progress now.
    pub fn in_progress(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The handshake is over.
    pub fn give_back(&mut self) {
        let Some(address) = self.address.take() else { return };
        let mut state = self.gate.lock();
        state.total = state.total.saturating_sub(1);
        if let Some(here) = state.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                state.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What one subscriber usually holds: an IPv4 address, or a /64 of IPv6.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_keeps_the_others_out() {
        let gate = Gate::default();
        let address = |n: usize| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let mut held: Vec<_> = (0..MAX_HANDSHAKES_PER_ADDRESS).map(|_| gate.enter(address(1)).unwrap()).collect();
        assert_eq!(gate.enter(address(1)).unwrap_err(), Full::Address);
        assert!(gate.enter(address(2)).is_ok());
        held.truncate(1);
        held[0].give_back();
        drop(held);
        assert_eq!(gate.in_progress(), 0);
        assert!(gate.lock().by_address.is_empty());
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let gate = Gate::default();
        let address = |n: usize| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let held: Vec<_> = (0..MAX_HANDSHAKES).map(|n| gate.enter(address(n)).unwrap()).collect();
        assert_eq!(gate.enter(address(9_999)).unwrap_err(), Full::Total);
        drop(held);
        assert!(gate.enter(address(9_999)).is_ok());
    }

    #[test]
    fn a_subscriber_is_counted_once_however_many_addresses_it_has() {
        let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:1".parse().unwrap());
        assert_eq!(site(a), site(b));
        assert_eq!(site("::ffff:1.2.3.4".parse().unwrap()), IpAddr::from([1, 2, 3, 4]));
    }
}
