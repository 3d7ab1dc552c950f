//! The hand that plays a cheater's tricks: it knows which, draws when, and counts.

use std::cell::RefCell;
use std::rc::Rc;

use offset_protocol::machine::{Duration, Instant};

use super::{Play, SharedEvidence, Trick};
use crate::dice::Dice;

/// See the module. It survives its host's crashes.
pub(super) struct Hand<T> {
    plays: Vec<Play<T>>,
    name: fn(T) -> Trick,
    evidence: SharedEvidence,
    pub(super) dice: Dice,
    /// What earlier lives took, and the latest moment of this one.
    lived: Duration,
    latest: Instant,
}

/// A hand that process and program share.
pub(super) type SharedHand<T> = Rc<RefCell<Hand<T>>>;

impl<T: Copy + PartialEq> Hand<T> {
    pub(super) fn shared(
        plays: &[Play<T>],
        name: fn(T) -> Trick,
        dice: Dice,
        evidence: &SharedEvidence,
    ) -> SharedHand<T> {
        let (plays, evidence) = (plays.to_vec(), evidence.clone());
        let (lived, latest) = (Duration::ZERO, Instant::ZERO);
        Rc::new(RefCell::new(Hand { plays, name, evidence, dice, lived, latest }))
    }

    /// The host starts (again): its clock begins anew.
    pub(super) fn start(&mut self) {
        self.lived = Duration::from_micros(self.lived.as_micros() + self.latest.as_micros());
        self.latest = Instant::ZERO;
    }

    /// One of these tricks, if it is played now; it is counted.
    pub(super) fn draw(&mut self, now: Instant, among: &[T]) -> Option<T> {
        self.latest = self.latest.max(now);
        let age = self.latest + self.lived;
        let dice = &mut self.dice;
        let drawn = self.plays.iter().filter(|play| among.contains(&play.trick));
        let drawn = drawn.filter_map(|play| play.is_on(age, dice)).next();
        if let Some(trick) = drawn {
            self.evidence.played((self.name)(trick));
        }
        drawn
    }

    /// Every one of these tricks that is played now.
    pub(super) fn draw_all(&mut self, now: Instant, among: &[T]) -> Vec<T> {
        among.iter().filter_map(|trick| self.draw(now, &[*trick])).collect()
    }
}
