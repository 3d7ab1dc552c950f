//! Notices that this host's network has changed or returned, so that a node is reachable again at once instead of after its
//! dead connections have been silent for long enough.
//!
//! Twice a second the system is asked from which address it would send to the world, by sockets that send nothing. Another
//! address, or one where there was none, is a changed network; so is a sleep of the whole host, in which its connections have
//! most likely died. Portable, without privileges, and right behind any NAT; it does not notice a change far away from us.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// How often the system is asked. Together with a handshake well below the two seconds after which a phone should be
/// reachable again.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The host has slept if the clock on the wall went on by so much more than our own. Chosen freely: longer than a clock is
/// usually set by, shorter than most connections survive.
const SLEEP: Duration = Duration::from_secs(30);
/// Addresses reserved for documents (RFC 5737, RFC 3849): the default route leads to them, and nothing is ever sent.
const WORLD: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// Watches until it is dropped.
#[derive(Debug)]
pub struct NetworkWatch {
    _until: Sender<()>,
}

/// Calls `returned` on a thread of its own each time when the network has changed or returned.
///
/// # Errors
/// If the system gives no thread.
pub fn watch(mut returned: impl FnMut() + Send + 'static) -> io::Result<NetworkWatch> {
    let (until, dropped) = channel::<()>();
    let mut before = Look::now();
    let run = move || {
        while dropped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let look = Look::now();
            if look.is_fresh_after(&before) {
                tracing::info!(addresses = ?look.routes, "the network has changed or returned");
                returned();
            }
            before = look.or_routes_of(before);
        }
    };
    std::thread::Builder::new().name("network".to_owned()).spawn(run)?;
    Ok(NetworkWatch { _until: until })
}

/// How the host stood to the world at a moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Where we would send from, by IPv4 and by IPv6.
    routes: [Option<IpAddr>; 2],
    clock: Instant,
    wall: SystemTime,
}

impl Look {
    fn now() -> Self {
        Look { routes: WORLD.map(route), clock: Instant::now(), wall: SystemTime::now() }
    }

    fn is_fresh_after(&self, before: &Look) -> bool {
        let moved = self.routes.iter().zip(&before.routes).any(|(now, then)| now.is_some() && now != then);
        let passed = self.clock.saturating_duration_since(before.clock);
        // A wall clock that was set back says nothing.
        let on_the_wall = self.wall.duration_since(before.wall).unwrap_or_default();
        moved || (self.routes != [None; 2] && on_the_wall > passed + SLEEP)
    }

    /// Without any network the last one is remembered: the same one that returns is still a network that returned, but one
    /// family that comes and goes beside the other is not.
    fn or_routes_of(self, before: Look) -> Look {
        let is_offline = self.routes == [None; 2];
        let kept = |n: usize| self.routes[n].or(before.routes[n]);
        Look { routes: if is_offline { self.routes } else { [kept(0), kept(1)] }, ..self }
    }
}

/// The address from which the system would send to `world`; of IPv6 the network only, since hosts change the rest of it
/// every day without losing a connection.
fn route(world: &str) -> Option<IpAddr> {
    let world: SocketAddr = world.parse().ok()?;
    let any: IpAddr = if world.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(world).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(routes: &[[Option<&str>; 2]]) -> Vec<bool> {
        let look = |routes: &[Option<&str>; 2], n: usize| {
            let (clock, wall) = (Instant::now(), SystemTime::now());
            let passed = POLL_INTERVAL * n as u32;
            let routes = routes.map(|route| route.map(|route| route.parse().unwrap()));
            Look { routes, clock: clock + passed, wall: wall + passed }
        };
        let mut before = look(&routes[0], 0);
        let rest = routes.iter().enumerate().skip(1);
        rest.map(|(n, routes)| {
            let now = look(routes, n);
            let fresh = now.is_fresh_after(&before);
            before = now.or_routes_of(before);
            fresh
        })
        .collect()
    }

    #[test]
    fn a_new_address_and_a_network_that_returns_are_fresh_and_nothing_else() {
        let (home, cafe, six) = (Some("192.168.1.7"), Some("10.0.0.5"), Some("2001:db8:1::"));
        let never = looks(&[[home, None], [home, None], [None, None], [None, None]]);
        assert_eq!(never, [false; 3]);
        assert_eq!(looks(&[[home, None], [cafe, None], [cafe, None]]), [true, false]);
        assert_eq!(looks(&[[home, None], [None, None], [home, None]]), [false, true]);
        assert_eq!(looks(&[[home, None], [home, six], [home, None], [home, six]]), [true, false, false]);
        assert_eq!(looks(&[[home, six], [None, six], [cafe, six]]), [false, true]);
    }

    #[test]
    fn a_host_that_slept_starts_afresh_and_a_clock_that_is_set_does_not() {
        let before =
            Look { routes: [Some([10, 0, 0, 1].into()), None], clock: Instant::now(), wall: SystemTime::now() };
        let after =
            |s: u64| Look { clock: before.clock + POLL_INTERVAL, wall: before.wall + Duration::from_secs(s), ..before };
        assert!(!after(10).is_fresh_after(&before));
        assert!(after(60).is_fresh_after(&before));
        let back = Look { wall: before.wall - Duration::from_secs(3_600), ..before };
        assert!(!back.is_fresh_after(&before));
        let offline = Look { routes: [None; 2], ..after(60) };
        assert!(!offline.is_fresh_after(&before));
    }

    #[test]
    fn the_system_answers_without_sending_anything() {
        // There may be no network here; then there is no address. Twice the same in any case.
        assert_eq!(WORLD.map(route), WORLD.map(route));
        assert_eq!(route("127.0.0.1:9"), Some([127, 0, 0, 1].into()));
        drop(watch(|| {}).unwrap());
    }
}
