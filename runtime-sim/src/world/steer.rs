//! What the owner of a world does to it between steps: faults, and what people hear from outside.

use offset_protocol::machine::{Duration, Instant};

use super::{Crash, World};
use crate::disk::Records;
use crate::host::{HostId, HostInput, Pace, Trap};
use crate::kernel::{Draw, Event};
use crate::net::{Cut, CutId, LinkId};
use crate::people::Note;

impl World {
    /// Whether what is heard over connections is compared with what was said.
    pub fn look_on(&mut self, looks_on: bool) {
        self.network.looks_on = looks_on;
    }

    /// Starts a host after `delay`, if it is off then.
    pub fn boot_after(&mut self, host: HostId, delay: Duration) {
        self.kernel.after(delay, host, Event::Boot);
    }

    /// Lets a step of the plan happen at `at`.
    pub fn plan_at(&mut self, at: Instant, step: u32) {
        self.kernel.at(at, HostId(u32::MAX), Event::Plan { step });
    }

    /// Crashes a host. Nothing if it is off.
    pub fn crash(&mut self, host: HostId, crash: Crash) {
        let Some(body) = self.hosts.get_mut(host.0 as usize) else { return };
        let Some(life) = body.life.take() else { return };
        self.crashes += 1;
        body.trap = None;
        // The power may have failed before, between or after the writes that were under way.
        let kept = self.kernel.dice(Draw::Kept, host.0.into()).below(body.disk.waiting() as u64 + 1) as usize;
        body.disk.crash(kept);
        match crash {
            Crash::Process => {
                for link in self.network.links_of(host) {
                    self.network.abandon(&mut self.kernel, link, host);
                }
            }
            Crash::Power => self.network.darken(host),
        }
        // What people said past the network is said again: only the device has forgotten it.
        for note in life.unread_notes() {
            self.tell(host, note);
        }
    }

    /// A host leaves for good: its power fails, and it never starts again.
    pub fn retire(&mut self, host: HostId) {
        self.crash(host, Crash::Power);
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.retired = true;
        }
    }

    /// Stops a program in order: what it wrote is flushed; a relay tells its clients first.
    pub fn stop(&mut self, host: HostId) {
        let Some(body) = self.hosts.get_mut(host.0 as usize) else { return };
        body.disk.crash(usize::MAX);
        if body.program.drains() {
            self.give(host, HostInput::Drain);
        } else {
            self.crash(host, Crash::Process);
        }
    }

    /// Lets every write of a host fail for a while, beginning now; zero: no longer.
    pub fn fail_disk(&mut self, host: HostId, lasts: Duration) {
        let until = self.kernel.now + lasts;
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.disk_fails_until = until;
        }
    }

    /// Lets a device change its network: whatever it had is silent, and it learns that there is a network again.
    pub fn roam(&mut self, host: HostId) {
        for link in self.network.links_of(host) {
            self.network.swallow(link);
        }
        self.give(host, HostInput::NetworkReturned);
    }

    /// Keeps a copy of what is on a host's disk.
    pub fn copy_disk(&mut self, host: HostId) {
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.copy = Some(host.disk.durable().clone());
        }
    }

    /// Crashes a host and puts its last copy back on its disk; whether anything is lost by that.
    pub fn put_back(&mut self, host: HostId) -> bool {
        self.crash(host, Crash::Process);
        let Some(host) = self.hosts.get_mut(host.0 as usize) else { return false };
        let Some(copy) = host.copy.clone() else { return false };
        let loses = copy != *host.disk.durable();
        host.disk.replace(copy);
        loses
    }

    /// Crashes a host and empties its disk.
    pub fn wipe(&mut self, host: HostId) {
        self.crash(host, Crash::Process);
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.disk.replace(Records::new());
        }
    }

    /// Crashes a host when it has passed a point, and starts it again a little later.
    pub fn set_trap(&mut self, host: HostId, trap: Trap) {
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.trap = Some(trap);
        }
    }

    /// Removes all traps.
    pub fn clear_traps(&mut self) {
        for host in &mut self.hosts {
            host.trap = None;
        }
    }

    /// Stops a host for a while, as a virtual machine that is moved: everything waits.
    pub fn pause(&mut self, host: HostId, time: Duration) {
        let until = self.kernel.now + time;
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.paused_until = host.paused_until.max(until);
        }
    }

    /// Changes how fast a host is.
    pub fn set_pace(&mut self, host: HostId, pace: Pace) {
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.pace = pace;
        }
    }

    /// How fast a host is.
    pub fn pace(&self, host: HostId) -> Pace {
        self.hosts[host.0 as usize].pace
    }

    /// Moves a host's wall clock.
    pub fn jump_wall(&mut self, host: HostId, by_ms: i64) {
        if let Some(host) = self.hosts.get_mut(host.0 as usize) {
            host.clock.jump_wall(by_ms);
            if let Some(life) = &mut host.life {
                life.push(HostInput::Wall(host.clock.wall(self.kernel.now)));
                life.settle(&mut self.kernel, host.id, &host.clock, host.pace.turn);
            }
        }
    }

    /// Gives a process an input from outside the network.
    pub fn give(&mut self, host: HostId, input: HostInput) {
        let Some(host) = self.hosts.get_mut(host.0 as usize) else { return };
        if let Some(life) = &mut host.life {
            life.push(input);
            life.settle(&mut self.kernel, host.id, &host.clock, host.pace.turn);
        }
    }

    /// Tells a person something, past the network.
    pub fn tell(&mut self, to: HostId, note: Note) {
        let delay = self.note.draw(&mut self.kernel.dice(Draw::Note, to.0.into()));
        self.notes_sent += 1;
        self.notes.insert(self.notes_sent, note);
        self.kernel.after(delay, to, Event::Note { number: self.notes_sent });
    }

    /// Cuts ways between hosts.
    pub fn cut(&mut self, cut: Cut) -> CutId {
        self.network.cuts.make(cut)
    }

    /// Ends a cut.
    pub fn heal_cut(&mut self, cut: CutId) {
        self.network.heal_cut(&mut self.kernel, cut);
    }

    /// Ends everything that is wrong with the network.
    pub fn heal_network(&mut self) {
        self.network.heal(&mut self.kernel);
    }

    /// Slows all packets of a host; zero: no more.
    pub fn clog(&mut self, host: HostId, extra: Duration) {
        self.network.clog(host, extra);
    }

    /// Lets some connection attempts be refused, or hang, for no reason.
    pub fn spoil_connects(&mut self, refused_per_mille: u32, hanging_per_mille: u32) {
        self.network.refused_per_mille = refused_per_mille;
        self.network.hanging_per_mille = hanging_per_mille;
    }

    /// All connections.
    pub fn links(&self) -> Vec<LinkId> {
        self.network.all_links()
    }

    /// One of the connections that there are, if any. The same number means the same one, whatever others come and go.
    pub fn choose_link(&self, number: u64) -> Option<LinkId> {
        self.network.choose(number)
    }

    /// Breaks a connection so that both ends hear of it.
    pub fn reset_link(&mut self, link: LinkId) {
        self.network.reset(&mut self.kernel, link);
    }

    /// Breaks a connection so that nobody hears of it.
    pub fn swallow_link(&mut self, link: LinkId) {
        self.network.swallow(link);
    }
}
