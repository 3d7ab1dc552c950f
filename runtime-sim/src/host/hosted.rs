//! A machine as a process, with the laws that every machine obeys checked at every turn.

use std::any::Any;

use offset_protocol::machine::{Alarm, Duration, Instant, Machine, turn};

use super::{Effect, HostInput, LawBroken, Process};
use crate::dice::Dice;

/// Something that real programs do on another thread. It has all that it needs, and makes the input that brings back what
/// came of it.
pub type Job<I> = Box<dyn FnOnce() -> I>;

/// What real programs do with an input on another thread before the machine sees it.
pub type Prepare<I> = Box<dyn FnMut(I) -> I>;

/// A machine that can live on a host.
pub trait Resident: Machine + 'static {
    /// The machine's own word for an input of its host; `None` if it cannot happen to such a machine.
    fn input(input: HostInput) -> Option<Self::Input>;

    /// What real programs do on other threads, to be done when its time comes; else the output.
    fn aside(&self, output: Self::Output) -> Result<Job<Self::Input>, Self::Output> {
        Err(output)
    }

    /// How slow such jobs are now and then.
    const SLOW_JOBS: SlowJobs = SlowJobs { per_mille: 50, longest: Duration::from_secs(2) };

    /// What an output means to the host; `None` if nothing.
    fn effect(output: Self::Output) -> Option<Effect>;

    /// Panics if an invariant that the machine states of itself does not hold. Looked at now and then: a book that is
    /// wrong stays wrong.
    fn assert_consistent(&self) {}
}

/// How many in a thousand turns are followed by a tick that is not due, which must change nothing, and by a look at what
/// the machine states of itself.
const EARLY_TICKS_PER_MILLE: u32 = 50;

/// How slow jobs of other threads are. Chosen freely for each machine: much changes meanwhile, and whoever waits for a
/// thread meets the end of others' patience.
#[derive(Clone, Copy, Debug)]
pub struct SlowJobs {
    /// How many in a thousand are slow.
    pub per_mille: u32,
    /// How slow they are at most.
    pub longest: Duration,
}

/// A machine as a process.
pub struct Hosted<M: Resident> {
    machine: M,
    waiting: Vec<M::Input>,
    prepare: Option<Prepare<M::Input>>,
    /// Jobs of slow threads, and when they are done.
    aside: Vec<(Instant, Job<M::Input>)>,
}

impl<M: Resident> Hosted<M> {
    /// A process whose first turn feeds `first`.
    pub fn new(machine: M, first: Vec<M::Input>) -> Self {
        Hosted { machine, waiting: first, prepare: None, aside: Vec::new() }
    }

    /// Has inputs prepared for the machine, as real programs do it on the connections' threads.
    pub fn prepared(mut self, prepare: Prepare<M::Input>) -> Self {
        self.prepare = Some(prepare);
        self
    }

    fn check_alarm(&self) -> Result<Option<Alarm>, LawBroken> {
        let (first, second) = (self.machine.poll_timeout(), self.machine.poll_timeout());
        if first == second { Ok(first) } else { Err(LawBroken::AlarmRead { first, second }) }
    }

    /// Feeds the machine, and what comes of what it wants done aside: at once, but now and then later, when much may have
    /// changed since it was handed out, and other jobs that were handed out later are done.
    fn feed(&mut self, now: Instant, mut inputs: Vec<M::Input>, dice: &mut Dice, effects: &mut Vec<Effect>) {
        while !inputs.is_empty() {
            let (mut outputs, mut done) = (Vec::new(), Vec::new());
            turn(&mut self.machine, now, inputs, |output| outputs.push(output));
            for output in outputs {
                match self.machine.aside(output) {
                    Ok(job) => done.push(job),
                    Err(output) => effects.extend(M::effect(output)),
                }
            }
            inputs = Vec::new();
            // Whoever looks on takes what the machine is after a turn for what it wants to be written: nothing may come in between.
            let writes = effects.iter().any(|effect| matches!(effect, Effect::Persist { .. }));
            for job in done {
                if dice.chance(M::SLOW_JOBS.per_mille) {
                    let longest = M::SLOW_JOBS.longest;
                    self.aside.push((now + dice.duration(Duration::from_millis(1), longest), job));
                } else if writes {
                    self.aside.push((now, job));
                } else {
                    inputs.push(job());
                }
            }
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
        let input = M::input(input);
        self.waiting.extend(match &mut self.prepare {
            Some(prepare) => input.map(prepare),
            None => input,
        });
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        let due = |alarm: Option<Alarm>| alarm.filter(|alarm| alarm.at <= now);
        let mut inputs = std::mem::take(&mut self.waiting);
        let mut back: Vec<_> = self.aside.extract_if(.., |(at, _)| *at <= now).collect();
        back.sort_by_key(|(at, _)| *at);
        inputs.extend(back.into_iter().map(|(_, job)| job()));
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

    /// Wants a job done at each tick, one each 100 ms; hears which came back.
    #[derive(Default)]
    struct Asker {
        now: Instant,
        next: Instant,
        asked: u64,
        wants: Vec<u64>,
        /// Number of the job, when it was asked for, and when it was run, as the job saw it; when it came back.
        back: Vec<(u64, Instant, Instant, Instant)>,
    }

    thread_local! {
        static NOW: std::cell::Cell<Instant> = const { std::cell::Cell::new(Instant::ZERO) };
    }

    impl Machine for Asker {
        type Input = Option<(u64, Instant, Instant)>;
        type Output = (u64, Instant);
        fn handle(&mut self, now: Instant, input: Self::Input) {
            self.now = now;
            match input {
                Some((number, asked, ran)) => self.back.push((number, asked, ran, now)),
                None if self.next <= now => {
                    self.next = now + Duration::from_millis(100);
                    self.asked += 1;
                    self.wants.push(self.asked);
                }
                None => {}
            }
        }
        fn poll_output(&mut self) -> Option<(u64, Instant)> {
            self.wants.pop().map(|number| (number, self.now))
        }
        fn poll_timeout(&self) -> Option<Alarm> {
            Some(Alarm { at: self.next, why: "test" })
        }
    }

    impl Resident for Asker {
        fn input(input: HostInput) -> Option<Self::Input> {
            matches!(input, HostInput::Tick).then_some(None)
        }
        fn aside(&self, (number, asked): (u64, Instant)) -> Result<Job<Self::Input>, (u64, Instant)> {
            Ok(Box::new(move || Some((number, asked, NOW.get()))))
        }
        fn effect(_: (u64, Instant)) -> Option<Effect> {
            None
        }
    }

    #[test]
    fn slow_jobs_are_done_when_they_are_due_and_come_back_in_another_order() {
        let mut process = Hosted::new(Asker::default(), Vec::new());
        let mut dice = Dice::new(&Seed::from_number(1), "jobs");
        while NOW.get() < Instant::ZERO + Duration::from_secs(60) {
            process.turn(NOW.get(), &mut dice, &mut Vec::new()).unwrap();
            NOW.set(process.alarm().unwrap().at);
        }
        let asker = process.machine().downcast_ref::<Asker>().unwrap();
        let late = asker.back.iter().filter(|(_, asked, ran, _)| ran.since(*asked) >= Duration::from_secs(1)).count();
        assert!((5..60).contains(&late), "{late} of {}", asker.asked);
        assert!(asker.back.iter().all(|(_, _, ran, back)| ran == back), "a job sees the time at which it is due");
        assert!(!asker.back.is_sorted_by_key(|(number, ..)| *number));
        let mut numbers: Vec<u64> = asker.back.iter().map(|(number, ..)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), asker.back.len(), "each comes back once");
    }

    #[test]
    fn a_machine_that_obeys_runs_and_one_that_does_not_is_named() {
        assert_eq!(run(Habit::Good), Ok(50));
        assert!(matches!(run(Habit::StaysDue), Err(LawBroken::AlarmStays { .. })));
        assert!(matches!(run(Habit::TakesAnyTick), Err(LawBroken::EarlyTick { outputs: 0, .. })));
    }
}
