//! Handshakes in progress: who holds most gives way, so that nobody keeps others out by beginning many and ending none; and
//! of one address the oldest that had time enough, so that silent ones keep nobody out who is at the same address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use offset_protocol::machine::{Duration, Instant};

use crate::connection::Mail;

/// A handshake that has had this long gives way to a newer one of its own address. Chosen freely: longer than one takes to the
/// other side of the world, so that many nodes behind one address that come back at once do not drive each other out.
const TIME_ENOUGH: Duration = Duration::from_secs(1);
/// The same of a peer that has said nothing. Whoever opens a connection speaks first, and at once: its first bytes come right
/// behind the connection itself, from wherever they come. Chosen freely: longer than a busy machine takes to look at them.
const TIME_TO_SPEAK: Duration = Duration::from_millis(50);

/// Names a handshake; later ones have greater numbers.
type Number = u64;

/// One in progress.
#[derive(Debug)]
struct Begun {
    at: Instant,
    has_spoken: bool,
    mail: Weak<Mail>,
}

impl Begun {
    fn had_its_time(&self, now: Instant) -> bool {
        now.since(self.at) >= if self.has_spoken { TIME_ENOUGH } else { TIME_TO_SPEAK }
    }
}

/// All handshakes in progress, by who makes them.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    next: Number,
    total: usize,
    by_site: HashMap<IpAddr, BTreeMap<Number, Begun>>,
    /// Sites by how many they have, and those with equally many by their oldest, the oldest last.
    by_count: BTreeSet<(usize, std::cmp::Reverse<Number>, IpAddr)>,
}

impl Handshakes {
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    pub(super) fn of(&self, site: &IpAddr) -> usize {
        self.by_site.get(site).map_or(0, BTreeMap::len)
    }

    /// Begins one. `mail` reaches who waits for it.
    pub(super) fn add(&mut self, site: IpAddr, at: Instant, mail: &Arc<Mail>) -> Number {
        self.next += 1;
        let number = self.next;
        self.change(site, |of_site| {
            of_site.insert(number, Begun { at, has_spoken: false, mail: Arc::downgrade(mail) });
        });
        self.total += 1;
        number
    }

    /// Its peer has said something. Nothing happens if it gave way before.
    pub(super) fn hear(&mut self, site: &IpAddr, number: Number) {
        if let Some(begun) = self.by_site.get_mut(site).and_then(|of_site| of_site.get_mut(&number)) {
            begun.has_spoken = true;
        }
    }

    /// Ends one. Nothing happens if it gave way before.
    pub(super) fn remove(&mut self, site: IpAddr, number: Number) {
        self.take(site, number);
    }

    fn take(&mut self, site: IpAddr, number: Number) -> Option<Begun> {
        let mut removed = None;
        self.change(site, |of_site| removed = of_site.remove(&number));
        self.total -= usize::from(removed.is_some());
        removed
    }

    /// Ends the oldest of whoever has most, if that is more than `site` has. Whether somebody gave way.
    pub(super) fn give_way_to(&mut self, site: &IpAddr) -> bool {
        let Some(&(count, std::cmp::Reverse(oldest), of)) = self.by_count.last() else { return false };
        if count <= self.of(site) {
            return false;
        }
        self.end(of, oldest);
        true
    }

    /// Ends the oldest of `site` that has had its time. Whether one gave way. Looks at all of the site's, of which there is a limit.
    pub(super) fn give_way_within(&mut self, site: &IpAddr, now: Instant) -> bool {
        let mut of_site = self.by_site.get(site).into_iter().flatten();
        let Some((&number, _)) = of_site.find(|(_, begun)| begun.had_its_time(now)) else { return false };
        self.end(*site, number);
        true
    }

    fn end(&mut self, site: IpAddr, number: Number) {
        if let Some(mail) = self.take(site, number).and_then(|begun| begun.mail.upgrade()) {
            mail.give_way();
            mail.wake();
        }
    }

    /// Changes what is held of a site, and its place among the others with it.
    fn change(&mut self, site: IpAddr, change: impl FnOnce(&mut BTreeMap<Number, Begun>)) {
        let of_site = self.by_site.entry(site).or_default();
        if let Some(place) = place(site, of_site) {
            self.by_count.remove(&place);
        }
        change(of_site);
        match place(site, of_site) {
            Some(place) => drop(self.by_count.insert(place)),
            None => drop(self.by_site.remove(&site)),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0 && self.by_site.is_empty() && self.by_count.is_empty()
    }
}

fn place(site: IpAddr, of_site: &BTreeMap<Number, Begun>) -> Option<(usize, std::cmp::Reverse<Number>, IpAddr)> {
    let (oldest, _) = of_site.first_key_value()?;
    Some((of_site.len(), std::cmp::Reverse(*oldest), site))
}
