//! What all connections of a program hold in their buffers, counted together, so that many slow readers cannot take more
//! memory than the operator gives.
//!
//! Counted are sealed bytes on their way out, what has come in and is not whole or not handed on, what waits in pipes (at the
//! connection that shall take it), and what the machine has said and a task has not taken. While all that is as much as
//! [`Budget::limit`] the budget is *tight*:
//!
//! 1. A tunnel takes one message at a time: nothing more is read at one end until the other end has taken the last.
//! 2. A wire takes the next message only when it is empty.
//! 3. Nobody waits for the budget: each connection goes on with one message in each direction, whose way out needs no room
//!    from anybody. So there is no circle of waiting, and a reader that takes too little is closed as ever.
//!
//! That slows everybody, and does not bound what many connections hold with a message each. So
//!
//! 4. at [`Budget::most`], and when it has been tight for as long as a peer may stall, those connections are closed that hold
//!    most for the longest time (bytes times the time since they last had taken everything), until an eighth of the limit is
//!    free. A peer that reads holds little, and for moments.
//!
//! So what is held is at most [`Budget::most`], and what comes within `LOOK_EVERY`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offset_protocol::machine::{Duration, Instant};

use super::Mail;

/// The least budget that makes sense: sixteen messages of the greatest length.
pub const LEAST_BUDGET: usize = 16 << 20;
/// Whom to close is looked for at most so often, as it takes a look at all connections. Chosen freely.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Since never.
const NEVER: u64 = u64::MAX;

/// The buffers of all connections of a program. Copies are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    held: AtomicUsize,
    tight_since_us: AtomicU64,
    next_look_us: AtomicU64,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    next: u64,
    open: BTreeMap<u64, Arc<Held>>,
}

/// What one connection holds.
#[derive(Debug)]
struct Held {
    bytes: AtomicUsize,
    /// Since when something has waited for its peer all the time.
    waits_since_us: AtomicU64,
    closing: AtomicBool,
    mail: Arc<Mail>,
}

impl Held {
    /// How much it costs the others: bytes times microseconds.
    fn burden(&self, now: Instant) -> u128 {
        let waits = now.as_micros().saturating_sub(self.waits_since_us.load(Relaxed));
        (self.bytes.load(Relaxed) as u128).saturating_mul(u128::from(waits) + 1)
    }
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limit: usize) -> Self {
        Budget(Arc::new(Inner {
            limit,
            held: AtomicUsize::new(0),
            tight_since_us: AtomicU64::new(NEVER),
            next_look_us: AtomicU64::new(0),
            accounts: Mutex::default(),
        }))
    }

    /// Bytes that may be held before it is tight.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that are never held for long: a quarter more.
    pub fn most(&self) -> usize {
        self.0.limit.saturating_add(self.0.limit / 4)
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Whether so much is held that everybody gets by with little.
    pub(super) fn is_tight(&self) -> bool {
        self.held() >= self.0.limit
    }

    /// A share of it that holds nothing yet, of nobody.
    pub(super) fn charge(&self) -> Charge {
        Charge { budget: self.clone(), of: None, bytes: 0 }
    }

    /// The account of a connection; its mailbox hears when it shall end.
    pub(super) fn account(&self, mail: Arc<Mail>) -> Account {
        let held = Arc::new(Held {
            bytes: AtomicUsize::new(0),
            waits_since_us: AtomicU64::new(NEVER),
            closing: AtomicBool::new(false),
            mail,
        });
        let mut accounts = self.accounts();
        let number = accounts.next;
        accounts.next += 1;
        accounts.open.insert(number, held.clone());
        Account { budget: self.clone(), number, held }
    }

    /// Closes those who burden it most, if it holds too much or has been tight for longer than `patience`.
    pub(super) fn relieve(&self, now: Instant, patience: Duration) {
        let (held, now_us) = (self.held(), now.as_micros());
        let inner = &*self.0;
        if held < inner.limit {
            // A moment's relief is none.
            if held < self.enough() && inner.tight_since_us.load(Relaxed) != NEVER {
                inner.tight_since_us.store(NEVER, Relaxed);
            }
            return;
        }
        let since = inner.tight_since_us.fetch_min(now_us, Relaxed).min(now_us);
        let for_long = now_us - since >= patience.as_micros();
        let next_look = inner.next_look_us.load(Relaxed);
        if (held < self.most() && !for_long) || now_us < next_look {
            return;
        }
        let after = (now + LOOK_EVERY).as_micros();
        if inner.next_look_us.compare_exchange(next_look, after, Relaxed, Relaxed).is_ok() {
            self.close_worst(now);
        }
    }

    fn close_worst(&self, now: Instant) {
        let (closing, mut others): (Vec<_>, Vec<_>) =
            self.accounts().open.values().cloned().partition(|held| held.closing.load(Relaxed));
        // What those still hold that were told to end is as good as free.
        let bytes = |held: &Arc<Held>| held.bytes.load(Relaxed);
        let mut left = self.held().saturating_sub(closing.iter().map(bytes).sum());
        let before = left;
        others.sort_by_cached_key(|held| std::cmp::Reverse(held.burden(now)));
        let mut closed = 0_usize;
        for held in others.iter().take_while(|held| bytes(held) > 0) {
            if left < self.enough() {
                break;
            }
            left = left.saturating_sub(bytes(held));
            held.closing.store(true, Relaxed);
            held.mail.abandon();
            closed += 1;
        }
        if closed > 0 {
            tracing::warn!(closed, freed = before - left, held = before, "buffers are full, connections are closed");
        }
    }

    /// Below this there is room again.
    fn enough(&self) -> usize {
        self.0.limit - self.0.limit / 8
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        // No code that can panic runs under the lock.
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection has of a budget, all its charges together. Dropping it closes the account, not its charges.
#[derive(Debug)]
pub(super) struct Account {
    budget: Budget,
    number: u64,
    held: Arc<Held>,
}

impl Account {
    /// A share of the budget that holds nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge { budget: self.budget.clone(), of: Some(self.held.clone()), bytes: 0 }
    }

    /// Something waits for the peer since then; `None`: nothing does.
    pub(super) fn waits_since(&self, since: Option<Instant>) {
        self.held.waits_since_us.store(since.map_or(NEVER, Instant::as_micros), Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.accounts().open.remove(&self.number);
    }
}

/// What one holder has of a budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    /// Whose it is.
    of: Option<Arc<Held>>,
    bytes: usize,
}

impl Charge {
    /// The budget that it is of.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds so many bytes from now on.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let all = std::iter::once(&self.budget.0.held).chain(self.of.iter().map(|of| &of.bytes));
        // The sum of all charges fits: they are bytes in memory.
        for held in all {
            if bytes >= self.bytes {
                held.fetch_add(bytes - self.bytes, Relaxed);
            } else {
                held.fetch_sub(self.bytes - bytes, Relaxed);
            }
        }
        self.bytes = bytes;
    }

    /// From now on it is this connection's.
    pub(super) fn move_to(&mut self, account: &Account) {
        let bytes = self.bytes;
        self.set(0);
        self.of = Some(account.held.clone());
        self.set(bytes);
    }

    /// As [`set`](Self::set), but in steps, for holders that change with every message: never less than is held, and less
    /// than two steps more.
    pub(super) fn set_roughly(&mut self, bytes: usize) {
        if bytes == 0 || bytes > self.bytes || self.bytes - bytes >= 2 * ROUGH {
            self.set(bytes.next_multiple_of(ROUGH));
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The step of what is told roughly: smaller changes are not worth a shared counter.
const ROUGH: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_sum_of_what_is_held_and_is_empty_when_all_are_gone() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.charge(), budget.charge());
        a.set(60);
        b.set(39);
        assert_eq!((budget.held(), budget.is_tight()), (99, false));
        b.set(41);
        assert!(budget.is_tight());
        drop(a);
        assert_eq!(budget.held(), 41);
        b.set(0);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_is_told_roughly_is_never_less_than_is_held_and_an_end_is_always_told() {
        let budget = Budget::new(100_000);
        let mut charge = budget.charge();
        for bytes in (0..40_000).step_by(77).chain((0..40_000).rev().step_by(91)) {
            charge.set_roughly(bytes);
            assert!((bytes..=bytes + 2 * ROUGH).contains(&budget.held()), "{} for {bytes}", budget.held());
        }
        for (bytes, told) in [(0, 0), (1, ROUGH), (0, 0)] {
            charge.set_roughly(bytes);
            assert_eq!(budget.held(), told);
        }
    }

    const PATIENCE: Duration = Duration::from_secs(40);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(0) + Duration::from_secs(seconds)
    }

    /// A connection that holds so much, and whose peer has not taken everything since then.
    fn connection(budget: &Budget, bytes: usize, since: Option<u64>) -> (Account, Charge, Arc<Mail>) {
        let mail = Arc::<Mail>::default();
        let account = budget.account(mail.clone());
        account.waits_since(since.map(at));
        let mut charge = account.charge();
        charge.set(bytes);
        (account, charge, mail)
    }

    #[test]
    fn past_the_most_those_who_hold_most_for_longest_are_closed_and_nobody_else() {
        let budget = Budget::new(800);
        let slow: Vec<_> = (0..5).map(|n| connection(&budget, 150, Some(n))).collect();
        let busy: Vec<_> = (0..3).map(|_| connection(&budget, 80, Some(9))).collect();
        let idle = connection(&budget, 5, None);
        assert!(budget.is_tight() && budget.held() < budget.most());
        budget.relieve(at(10), PATIENCE);
        assert!(slow.iter().all(|(_, _, mail)| !mail.is_ended()), "tight for the first time");
        let more = connection(&budget, 10, Some(9));
        budget.relieve(at(11), PATIENCE);
        let ended: Vec<_> = slow.iter().map(|(_, _, mail)| mail.is_ended()).collect();
        assert_eq!(ended, [true, true, true, false, false], "1005 less 3 times 150 is below 700");
        assert!(busy.iter().chain([&idle, &more]).all(|(_, _, mail)| !mail.is_ended()));
        // Until they are gone nobody else has to go for them.
        budget.relieve(at(12), PATIENCE);
        assert_eq!(slow.iter().filter(|(_, _, mail)| mail.is_ended()).count(), 3);
        drop((slow, busy, idle, more));
        assert_eq!((budget.held(), budget.accounts().open.len()), (0, 0));
    }

    #[test]
    fn nobody_keeps_it_tight_for_ever() {
        let budget = Budget::new(800);
        let slow = connection(&budget, 700, Some(0));
        let (_account, mut charge, mail) = connection(&budget, 100, Some(0));
        budget.relieve(at(1), PATIENCE);
        // A moment in which it is not tight changes nothing.
        charge.set(50);
        budget.relieve(at(20), PATIENCE);
        charge.set(100);
        budget.relieve(at(40), PATIENCE);
        assert!(!slow.2.is_ended());
        budget.relieve(at(41), PATIENCE);
        assert!(slow.2.is_ended() && !mail.is_ended());
        drop(slow);
        budget.relieve(at(42), PATIENCE);
        let (_account, mut charge, mail) = connection(&budget, 700, Some(42));
        budget.relieve(at(43), PATIENCE);
        charge.set(750);
        budget.relieve(at(80), PATIENCE);
        assert!(!mail.is_ended(), "time begins again");
    }

    #[test]
    fn what_moves_to_another_connection_is_counted_there() {
        let budget = Budget::new(100);
        let (first, mut charge, _) = connection(&budget, 30, None);
        let (second, ..) = connection(&budget, 0, None);
        charge.move_to(&second);
        let bytes = |account: &Account| account.held.bytes.load(Relaxed);
        assert_eq!((budget.held(), bytes(&first), bytes(&second)), (30, 0, 30));
        drop(charge);
        assert_eq!((budget.held(), bytes(&second)), (0, 0));
    }
}
