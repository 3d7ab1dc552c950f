//! A machine as a process, with the laws that every machine obeys checked at every turn.

use std::any::Any;

use offset_protocol::machine::{Alarm, Duration, Instant, Machine, turn};

use super::{Effect, HostInput, LawBroken, Process};
use crate::dice::Dice;

/// A machine that can live on a host.
pub trait Resident: Machine + 'static {
    /// The machine's own word for an input of its host; `None` if it cannot happen to such a machine.
    fn input(input: HostInput) -> Option<Self::Input>;

    /// Does what real programs do on other threads, and gives the input that brings back what came of it; else the output.
    fn aside(output: Self::Output) -> Result<Self::Input, Self::Output> {
        Err(output)
    }

    /// What an output means to the host; `None` if nothing.
    fn effect(output: Self::Output) -> Option<Effect>;

    /// Panics if an invariant that the machine states of itself does not hold. Looked at now and then: a book that is
    /// wrong stays wrong.
    fn assert_consistent(&self) {}
}

/// How many in a thousand turns are followed by a tick that is not due, which must change nothing, and by a look at what
/// the machine states of itself.
const EARLY_TICKS_PER_MILLE: u32 = 50;

/// How many in a thousand turns are slow to do what real programs do on other threads.
const SLOW_ASIDES_PER_MILLE: u32 = 50;
/// How slow they are at most. Chosen freely: other requests come and connections end meanwhile, and nobody gives up.
const SLOWEST_ASIDE: Duration = Duration::from_millis(500);

/// A machine as a process.
pub struct Hosted<M: Resident> {
    machine: M,
    waiting: Vec<M::Input>,
    /// What slow threads bring back, and when; in the order in which they were asked.
    aside: Vec<(Instant, M::Input)>,
}

impl<M: Resident> Hosted<M> {
    /// A process whose first turn feeds `first`.
    pub fn new(machine: M, first: Vec<M::Input>) -> Self {
        Hosted { machine, waiting: first, aside: Vec::new() }
    }

    fn check_alarm(&self) -> Result<Option<Alarm>, LawBroken> {
        let (first, second) = (self.machine.poll_timeout(), self.machine.poll_timeout());
        if first == second { Ok(first) } else { Err(LawBroken::AlarmRead { first, second }) }
    }

    /// Feeds the machine, and what comes of what it wants done aside: at once, but now and then later.
    fn feed(&mut self, now: Instant, mut inputs: Vec<M::Input>, dice: &mut Dice, effects: &mut Vec<Effect>) {
        while !inputs.is_empty() {
            let mut done = Vec::new();
            turn(&mut self.machine, now, inputs, |output| match M::aside(output) {
                Ok(input) => done.push(input),
                Err(output) => effects.extend(M::effect(output)),
            });
            if !done.is_empty() && dice.chance(SLOW_ASIDES_PER_MILLE) {
                let at = now + dice.duration(Duration::from_millis(1), SLOWEST_ASIDE);
                self.aside.extend(done.drain(..).map(|input| (at, input)));
            }
            inputs = done;
        }
    }

    /// A tick that is not due changes nothing.
    fn check_early_tick(&mut self, now: Instant, before: Option<Alarm>) -> Result<(), LawBroken> {
        let mut outputs = 0;
        turn(&mut self.machine, now, M::input(HostInput::Tick), |_| outputs += 1);
        let after = self.check_alarm()?;
        if outputs == 0 && after == before {
            return Ok(());
        }
        Err(LawBroken::EarlyTick { now, before, after, outputs })
    }
}

impl<M: Resident> Process for Hosted<M> {
    fn push(&mut self, input: HostInput) {
        self.waiting.extend(M::input(input));
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        let due = |alarm: Option<Alarm>| alarm.filter(|alarm| alarm.at <= now);
        let mut inputs = std::mem::take(&mut self.waiting);
        inputs.extend(self.aside.extract_if(.., |(at, _)| *at <= now).map(|(_, input)| input));
        self.feed(now, inputs, dice, effects);
        if due(self.check_alarm()?).is_some() {
            self.feed(now, Vec::from_iter(M::input(HostInput::Tick)), dice, effects);
            if let Some(alarm) = due(self.check_alarm()?) {
                return Err(LawBroken::AlarmStays { now, alarm });
            }
        }
        if dice.chance(EARLY_TICKS_PER_MILLE) {
            let before = self.check_alarm()?;
            self.check_early_tick(now, before)?;
            self.machine.assert_consistent();
        }
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        let back = self.aside.iter().map(|(at, _)| *at).min().map(|at| Alarm { at, why: "a slow thread" });
        Alarm::earliest(self.machine.poll_timeout(), back)
    }

    fn machine(&self) -> &dyn Any {
        &self.machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;

    /// Ticks once a second; each bad habit breaks one law.
    #[derive(Default)]
    struct Ticker {
        next: Option<Instant>,
        habit: Habit,
        ticks: u32,
    }

    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    enum Habit {
        #[default]
        Good,
        StaysDue,
        TakesAnyTick,
    }

    impl Machine for Ticker {
        type Input = ();
        type Output = ();
        fn handle(&mut self, now: Instant, (): ()) {
            let due = self.next.is_none_or(|next| next <= now);
            if due && self.habit == Habit::StaysDue {
                self.next = Some(now);
            } else if due || self.habit == Habit::TakesAnyTick {
                self.next = Some(now + Duration::from_secs(1));
                self.ticks += 1;
            }
        }
        fn poll_output(&mut self) -> Option<()> {
            None
        }
        fn poll_timeout(&self) -> Option<Alarm> {
            Some(Alarm { at: self.next.unwrap_or(Instant::ZERO), why: "test" })
        }
    }

    impl Resident for Ticker {
        fn input(input: HostInput) -> Option<()> {
            matches!(input, HostInput::Tick).then_some(())
        }
        fn effect((): ()) -> Option<Effect> {
            None
        }
    }

    fn run(habit: Habit) -> Result<u32, LawBroken> {
        let mut process = Hosted::new(Ticker { habit, ..Ticker::default() }, Vec::new());
        let mut dice = Dice::new(&Seed::from_number(1), "laws");
        for step in 0..100 {
            process.turn(Instant::from_micros(step * 500_000), &mut dice, &mut Vec::new())?;
        }
        Ok(process.machine().downcast_ref::<Ticker>().unwrap().ticks)
    }

    #[test]
    fn a_machine_that_obeys_runs_and_one_that_does_not_is_named() {
        assert_eq!(run(Habit::Good), Ok(50));
        assert!(matches!(run(Habit::StaysDue), Err(LawBroken::AlarmStays { .. })));
        assert!(matches!(run(Habit::TakesAnyTick), Err(LawBroken::EarlyTick { outputs: 0, .. })));
    }
}
