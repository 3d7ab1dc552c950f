//! What goes wrong, and when: a plan that is drawn from the seed before anything happens.
//!
//! Because the plan is data, a run can be repeated from it alone, cut, and made smaller, whatever became of the generator.
//!
//! **Swarm**: each plan switches every [`Family`] off in half of the runs and draws its own rate, so that rare pairs of
//! faults get room. At the end of a plan everything is healed; what is broken for good stays so only if nobody can mend it
//! (a link that fell silent must be found out by its ends).

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::machine::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::host::{CrashPoint, HostId, Pace, Trap};
use crate::latency::Latency;
use crate::net::{Cut, CutId};
use crate::world::{Crash, World};

/// Kinds of faults that are switched on and off together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Family {
    /// Connections break.
    Reset,
    /// Connections fall silent.
    Swallow,
    /// Connection attempts are refused or hang.
    Connect,
    /// Hosts cannot reach each other for a while.
    Cut,
    /// All packets of a host take longer for a while.
    Clog,
    /// Processes die at any time.
    Crash,
    /// Processes die right after a write, a flush or a message.
    Trap,
    /// Hosts stand still for a while.
    Pause,
    /// Disks stall for a while.
    SlowDisk,
    /// Wall clocks jump.
    Wall,
    /// A way between two hosts comes and goes.
    Flap,
    /// A random subset is cut off one by one and comes back in another order.
    Swizzle,
    /// Programs are stopped in order and started again.
    Stop,
    /// Writes fail for a while: the disk is full, or broken.
    DiskFail,
    /// Devices change their network: their connections fall silent, new ones work.
    Roam,
    /// Programs are slow for a while.
    Slow,
    /// Nodes leave for good.
    Leave,
    /// Old copies of databases are put back.
    Backup,
    /// Databases are lost.
    Wipe,
}

/// All families.
pub const FAMILIES: [Family; 19] = [
    Family::Reset,
    Family::Swallow,
    Family::Connect,
    Family::Cut,
    Family::Clog,
    Family::Crash,
    Family::Trap,
    Family::Pause,
    Family::SlowDisk,
    Family::Wall,
    Family::Flap,
    Family::Swizzle,
    Family::Stop,
    Family::DiskFail,
    Family::Roam,
    Family::Slow,
    Family::Leave,
    Family::Backup,
    Family::Wipe,
];

/// One thing that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// One of the links that there are breaks: the same for the same number, whatever others there are.
    Reset {
        /// Which.
        nth: u64,
    },
    /// One of the links that there are falls silent: the same for the same number, whatever others there are.
    Swallow {
        /// Which.
        nth: u64,
    },
    /// From now on so many in a thousand connection attempts fail.
    Connect {
        /// Refused.
        refused_per_mille: u32,
        /// Without any answer.
        hanging_per_mille: u32,
    },
    /// A cut begins.
    Cut {
        /// Names it within the plan.
        name: u32,
        /// Between whom.
        cut: Cut,
    },
    /// A cut ends.
    Heal {
        /// Which.
        name: u32,
    },
    /// All packets of a host take this much longer from now on; zero: no longer.
    Clog {
        /// Which.
        host: HostId,
        /// How much.
        extra: Duration,
    },
    /// A host crashes.
    Crash {
        /// Which.
        host: HostId,
        /// How.
        crash: Crash,
        /// Until it starts again.
        off: Duration,
    },
    /// A host crashes when it passes a point.
    Trap {
        /// Which.
        host: HostId,
        /// Where.
        trap: Trap,
    },
    /// A host stands still.
    Pause {
        /// Which.
        host: HostId,
        /// For how long.
        time: Duration,
    },
    /// A host's disk takes this long from now on.
    Disk {
        /// Which.
        host: HostId,
        /// A flush.
        flush: Latency,
    },
    /// A host's wall clock jumps.
    Wall {
        /// Which.
        host: HostId,
        /// By how much.
        by_ms: i64,
    },
    /// A program stops in order.
    Stop {
        /// Where.
        host: HostId,
        /// Until it starts again.
        off: Duration,
    },
    /// Every write of a host fails until then: the program ends, starts again, and ends at its next write.
    DiskFails {
        /// Which.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// A host's connections fall silent, and it learns that it has a network again.
    Roam {
        /// Which.
        host: HostId,
    },
    /// From the first input that waits to the turn that takes it, a host needs this long from now on.
    Pace {
        /// Which.
        host: HostId,
        /// A turn.
        turn: Latency,
    },
    /// A host leaves for good.
    Leave {
        /// Which.
        host: HostId,
    },
    /// What is on a host's disk is copied.
    Copy {
        /// Which.
        host: HostId,
    },
    /// A host crashes; when it starts again, its last copy is on its disk.
    PutBack {
        /// Which.
        host: HostId,
        /// Until it starts again.
        off: Duration,
    },
    /// A host crashes; when it starts again, its disk is empty, and its person sets it up again.
    Wipe {
        /// Which.
        host: HostId,
        /// Until it starts again.
        off: Duration,
    },
}

impl Fault {
    /// The family that it belongs to, as the injector counts; cuts of all kinds are one.
    pub const fn family(&self) -> Family {
        match self {
            Fault::Reset { .. } => Family::Reset,
            Fault::Swallow { .. } => Family::Swallow,
            Fault::Connect { .. } => Family::Connect,
            Fault::Cut { .. } | Fault::Heal { .. } => Family::Cut,
            Fault::Stop { .. } => Family::Stop,
            Fault::DiskFails { .. } => Family::DiskFail,
            Fault::Roam { .. } => Family::Roam,
            Fault::Pace { .. } => Family::Slow,
            Fault::Leave { .. } => Family::Leave,
            Fault::Copy { .. } | Fault::PutBack { .. } => Family::Backup,
            Fault::Wipe { .. } => Family::Wipe,
            Fault::Clog { .. } => Family::Clog,
            Fault::Crash { .. } => Family::Crash,
            Fault::Trap { .. } => Family::Trap,
            Fault::Pause { .. } => Family::Pause,
            Fault::Disk { .. } => Family::SlowDisk,
            Fault::Wall { .. } => Family::Wall,
        }
    }
}

/// What goes wrong in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order of time.
    pub faults: Vec<(Instant, Fault)>,
}

/// Whom a plan may hurt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victims {
    /// All hosts that crash, stand still, are cut off.
    pub hosts: Vec<HostId>,
    /// Those of them that have a disk.
    pub with_disk: Vec<HostId>,
}

/// How often one family strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rage {
    /// The family.
    pub family: Family,
    /// The average time between two strikes.
    pub every: Duration,
}

/// A quiet disk, to which every slow one returns.
pub const QUIET_FLUSH: Latency = Latency::Uniform { low: Duration::from_micros(200), high: Duration::from_millis(8) };

/// An idle processor, to which every slow one returns.
pub const QUIET_TURN: Latency = Latency::Uniform { low: Duration::ZERO, high: Duration::from_micros(400) };

impl Plan {
    /// Draws a plan for the time between `from` and `to`; by `to` everything that a plan can mend is mended.
    pub fn draw(dice: &mut Dice, victims: &Victims, from: Instant, to: Instant) -> Plan {
        let mut rages = Vec::new();
        for family in FAMILIES {
            if dice.chance(500) {
                continue;
            }
            let every = Duration::from_millis(match family {
                // Each of these may need a user, or is never mended: rare, but not too rare.
                Family::Leave | Family::Backup | Family::Wipe => dice.between(20_000, 200_000),
                _ => dice.between(1_500, 25_000),
            });
            rages.push(Rage { family, every });
        }
        Plan::draw_from(dice, victims, &rages, from, to)
    }

    /// Draws a plan in which exactly these families strike.
    pub fn draw_from(dice: &mut Dice, victims: &Victims, rages: &[Rage], from: Instant, to: Instant) -> Plan {
        let mut drawing = Drawing { faults: Vec::new(), cuts: 0, left: Vec::new(), to };
        for rage in rages {
            let mut at = from;
            loop {
                at += Latency::Exponential { mean: rage.every }.draw(dice);
                if at >= to {
                    break;
                }
                drawing.draw_one(dice, victims, rage.family, at);
            }
        }
        // The sort is stable: what was drawn first for one moment happens first.
        drawing.faults.sort_by_key(|(at, _)| *at);
        Plan { faults: drawing.faults }
    }

    /// How many faults of each family there are.
    pub fn count(&self) -> BTreeMap<Family, usize> {
        let mut counts = BTreeMap::new();
        for (_, fault) in &self.faults {
            *counts.entry(fault.family()).or_default() += 1;
        }
        counts
    }
}

struct Drawing {
    faults: Vec<(Instant, Fault)>,
    cuts: u32,
    /// Who has left for good.
    left: Vec<HostId>,
    to: Instant,
}

impl Drawing {
    fn add(&mut self, at: Instant, fault: Fault) {
        self.faults.push((at, fault));
    }

    /// Adds what ends a fault that began at `at`, at the end of the plan at the latest.
    fn add_end(&mut self, at: Instant, lasts: Duration, fault: Fault) {
        self.add((at + lasts).min(self.to), fault);
    }

    fn draw_one(&mut self, dice: &mut Dice, victims: &Victims, family: Family, at: Instant) {
        let lasts = Latency::Exponential { mean: Duration::from_secs(8) }.draw(dice);
        let host = dice.pick(&victims.hosts).copied();
        let with_disk = dice.pick(&victims.with_disk).copied();
        match (family, host) {
            (Family::Reset, _) => self.add(at, Fault::Reset { nth: dice.next_u64() }),
            (Family::Swallow, _) => self.add(at, Fault::Swallow { nth: dice.next_u64() }),
            (Family::Connect, _) => {
                let spoiled = Fault::Connect {
                    refused_per_mille: dice.between(0, 500) as u32,
                    hanging_per_mille: dice.between(0, 300) as u32,
                };
                self.add(at, spoiled);
                self.add_end(at, lasts, Fault::Connect { refused_per_mille: 0, hanging_per_mille: 0 });
            }
            (Family::Cut, Some(host)) => {
                let cut = draw_cut(dice, &victims.hosts, host);
                self.draw_cut_for(cut, at, lasts);
            }
            (Family::Clog, Some(host)) => {
                let extra = dice.duration(Duration::from_millis(20), Duration::from_secs(3));
                self.add(at, Fault::Clog { host, extra });
                self.add_end(at, lasts, Fault::Clog { host, extra: Duration::ZERO });
            }
            (Family::Crash, Some(host)) => {
                let crash = if dice.chance(500) { Crash::Process } else { Crash::Power };
                let off = lasts.min(Duration::from_micros(self.to.since(at).as_micros()));
                self.add(at, Fault::Crash { host, crash, off });
            }
            (Family::Trap, _) => {
                let (Some(host), Some(point)) = (with_disk, dice.pick(&CrashPoint::ALL).copied()) else { return };
                self.add(at, Fault::Trap { host, trap: Trap { point, after: dice.below(12) as u32 } });
            }
            (Family::Pause, Some(host)) => self.add(at, Fault::Pause { host, time: lasts.min(self.to.since(at)) }),
            (Family::SlowDisk, _) => {
                let Some(host) = with_disk else { return };
                let high = dice.duration(Duration::from_millis(20), Duration::from_secs(4));
                self.add(at, Fault::Disk { host, flush: Latency::Uniform { low: Duration::ZERO, high } });
                self.add_end(at, lasts, Fault::Disk { host, flush: QUIET_FLUSH });
            }
            (Family::Wall, Some(host)) => {
                let by_ms = dice.between(0, 7_200_000) as i64 - 3_600_000;
                self.add(at, Fault::Wall { host, by_ms });
            }
            (Family::Flap, Some(host)) => self.draw_flapping(dice, victims, host, at),
            (Family::Swizzle, Some(_)) => self.draw_swizzle(dice, victims, at),
            (Family::Stop, Some(host)) => {
                let off = lasts.min(self.to.since(at));
                self.add(at, Fault::Stop { host, off });
            }
            (Family::Roam, Some(host)) => self.add(at, Fault::Roam { host }),
            (Family::Slow, Some(host)) => {
                let high = dice.duration(Duration::from_millis(20), Duration::from_secs(2));
                self.add(at, Fault::Pace { host, turn: Latency::Uniform { low: Duration::ZERO, high } });
                self.add_end(at, lasts, Fault::Pace { host, turn: QUIET_TURN });
            }
            (Family::DiskFail | Family::Leave | Family::Backup | Family::Wipe, _) => {
                let Some(host) = with_disk else { return };
                self.draw_loss(dice, victims, family, host, at, lasts);
            }
            (
                Family::Cut
                | Family::Clog
                | Family::Crash
                | Family::Pause
                | Family::Wall
                | Family::Flap
                | Family::Swizzle
                | Family::Stop
                | Family::Roam
                | Family::Slow,
                None,
            ) => {}
        }
    }

    /// What a disk, or a whole node, loses.
    fn draw_loss(
        &mut self,
        dice: &mut Dice,
        victims: &Victims,
        family: Family,
        host: HostId,
        at: Instant,
        lasts: Duration,
    ) {
        let lasts = lasts.min(self.to.since(at));
        match family {
            Family::DiskFail => self.add(at, Fault::DiskFails { host, lasts }),
            // A network of which a quarter has left is another network.
            Family::Leave if !self.left.contains(&host) && 4 * self.left.len() < victims.with_disk.len() => {
                self.left.push(host);
                self.add(at, Fault::Leave { host });
            }
            Family::Backup => {
                self.add(at, Fault::Copy { host });
                let back = (at + dice.duration(Duration::from_millis(100), Duration::from_secs(30))).min(self.to);
                self.add(back, Fault::PutBack { host, off: lasts.min(self.to.since(back)) });
            }
            Family::Wipe => self.add(at, Fault::Wipe { host, off: lasts }),
            _ => {}
        }
    }

    /// A way that comes and goes a few times.
    fn draw_flapping(&mut self, dice: &mut Dice, victims: &Victims, host: HostId, at: Instant) {
        let cut = draw_cut(dice, &victims.hosts, host);
        let mut at = at;
        for _ in 0..dice.between(2, 8) {
            let down = dice.duration(Duration::from_millis(50), Duration::from_secs(3));
            self.draw_cut_for(cut.clone(), at, down);
            at += down;
            at += dice.duration(Duration::from_millis(50), Duration::from_secs(3));
            if at >= self.to {
                return;
            }
        }
    }

    /// Hosts are cut off one by one, and come back in another order.
    fn draw_swizzle(&mut self, dice: &mut Dice, victims: &Victims, at: Instant) {
        let mut at = at;
        for &host in &victims.hosts {
            if dice.chance(500) {
                at += dice.duration(Duration::ZERO, Duration::from_secs(2));
                let down = dice.duration(Duration::from_secs(1), Duration::from_secs(20));
                self.draw_cut_for(Cut::Around([host].into()), at.min(self.to), down);
            }
        }
    }

    fn draw_cut_for(&mut self, cut: Cut, at: Instant, lasts: Duration) {
        let name = self.cuts;
        self.cuts += 1;
        self.add(at, Fault::Cut { name, cut });
        self.add_end(at, lasts, Fault::Heal { name });
    }
}

fn draw_cut(dice: &mut Dice, hosts: &[HostId], host: HostId) -> Cut {
    let mut half = || hosts.iter().copied().filter(|_| dice.chance(500)).collect::<BTreeSet<_>>();
    let (some, others) = (half(), half());
    match dice.below(4) {
        0 => Cut::Around([host].into()),
        1 => Cut::Around(some),
        2 => Cut::OneWay { from: some, to: others },
        _ => Cut::Pair(host, dice.pick(hosts).copied().unwrap_or(host)),
    }
}

/// Carries out faults, and remembers what has to be mended.
#[derive(Debug, Default)]
pub struct Injector {
    cuts: BTreeMap<u32, CutId>,
    counts: BTreeMap<Family, usize>,
    forgetful: BTreeSet<HostId>,
}

impl Injector {
    /// Lets a fault happen.
    pub fn inject(&mut self, world: &mut World, fault: &Fault) {
        *self.counts.entry(fault.family()).or_default() += 1;
        match fault {
            Fault::Reset { nth } => {
                if let Some(link) = world.choose_link(*nth) {
                    world.reset_link(link);
                }
            }
            Fault::Swallow { nth } => {
                if let Some(link) = world.choose_link(*nth) {
                    world.swallow_link(link);
                }
            }
            Fault::Connect { refused_per_mille, hanging_per_mille } => {
                world.spoil_connects(*refused_per_mille, *hanging_per_mille);
            }
            Fault::Cut { name, cut } => {
                let id = world.cut(cut.clone());
                self.cuts.insert(*name, id);
            }
            Fault::Heal { name } => {
                if let Some(id) = self.cuts.remove(name) {
                    world.heal_cut(id);
                }
            }
            Fault::Clog { host, extra } => world.clog(*host, *extra),
            Fault::Crash { host, crash, off } => {
                world.crash(*host, *crash);
                world.boot_after(*host, *off);
            }
            Fault::Trap { host, trap } => world.set_trap(*host, *trap),
            Fault::Pause { host, time } => world.pause(*host, *time),
            Fault::Disk { host, flush } => {
                let pace = world.pace(*host);
                world.set_pace(*host, Pace { flush: *flush, ..pace });
            }
            Fault::Wall { host, by_ms } => world.jump_wall(*host, *by_ms),
            Fault::Stop { host, off } => {
                world.stop(*host);
                world.boot_after(*host, *off);
            }
            Fault::DiskFails { host, lasts } => world.fail_disk(*host, *lasts),
            Fault::Roam { host } => world.roam(*host),
            Fault::Pace { host, turn } => {
                let pace = world.pace(*host);
                world.set_pace(*host, Pace { turn: *turn, ..pace });
            }
            Fault::Leave { host } => world.retire(*host),
            Fault::Copy { host } => world.copy_disk(*host),
            Fault::PutBack { host, off } => {
                self.forgetful.extend(world.put_back(*host).then_some(*host));
                world.boot_after(*host, *off);
            }
            Fault::Wipe { host, off } => {
                world.wipe(*host);
                self.forgetful.insert(*host);
                world.boot_after(*host, *off);
            }
        }
    }

    /// Ends everything that is going on: from now on nothing fails but what nobody can mend.
    pub fn heal(&mut self, world: &mut World, victims: &Victims) {
        self.cuts.clear();
        world.heal_network();
        world.clear_traps();
        for &host in &victims.with_disk {
            let pace = world.pace(host);
            world.set_pace(host, Pace { flush: QUIET_FLUSH, ..pace });
            world.fail_disk(host, Duration::ZERO);
        }
        for &host in &victims.hosts {
            let pace = world.pace(host);
            world.set_pace(host, Pace { turn: QUIET_TURN, ..pace });
            world.boot_after(host, Duration::ZERO);
        }
    }

    /// Cuts that have not been healed.
    pub fn active(&self) -> usize {
        self.cuts.len()
    }

    /// Hosts that forgot something that they had said.
    pub const fn forgetful(&self) -> &BTreeSet<HostId> {
        &self.forgetful
    }

    /// How many faults of each family happened.
    pub const fn counts(&self) -> &BTreeMap<Family, usize> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;

    fn victims() -> Victims {
        let hosts: Vec<_> = (0..6).map(HostId).collect();
        Victims { with_disk: hosts[..3].to_vec(), hosts }
    }

    fn plan(seed: u64) -> Plan {
        let mut dice = Dice::new(&Seed::from_number(seed), "plan");
        let at = |s: u64| Instant::from_micros(s * 1_000_000);
        Plan::draw(&mut dice, &victims(), at(10), at(70))
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_all_families_occur() {
        assert_eq!(plan(3), plan(3));
        let seen: BTreeSet<_> = (0..50).flat_map(|seed| plan(seed).count().into_keys()).collect();
        // Cuts that flap and swizzle are counted as cuts.
        assert_eq!(seen.len(), FAMILIES.len() - 2);
    }

    #[test]
    fn everything_that_begins_ends_within_the_plan() {
        for seed in 0..50 {
            let plan = plan(seed);
            let end = Instant::from_micros(70_000_000);
            assert!(plan.faults.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            let open: i64 = plan
                .faults
                .iter()
                .map(|(at, fault)| {
                    assert!(*at <= end);
                    match fault {
                        Fault::Cut { .. } => 1,
                        Fault::Heal { .. } => -1,
                        _ => 0,
                    }
                })
                .sum();
            assert_eq!(open, 0);
        }
    }
}
