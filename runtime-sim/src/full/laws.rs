//! What every machine and every connection of a run must obey, whoever it belongs to (I15, I18), and what guests notice (I16).

use offset_funder_sm::node::Node;
use offset_index_sm::server::IndexServer;
use offset_index_sm::server::reports::WANT_PATIENCE;
use offset_protocol::limits::INDEX_TICK;

use super::Run;
use crate::case::{GuestPlan, Present, Role};
use crate::check::marks::{Reasons, unreasonable};
use crate::check::{Invariant, Violation};
use crate::host::{HostId, LawBroken};
use crate::world::Broken;

impl Run<'_> {
    /// A law that was broken, as a violation.
    pub(super) fn broken(broken: &Broken) -> Violation {
        let invariant = match &broken.law {
            LawBroken::Misheard { .. } => Invariant::Channel,
            LawBroken::AlarmRead { .. }
            | LawBroken::AlarmStays { .. }
            | LawBroken::EarlyTick { .. }
            | LawBroken::WillNotStart { .. } => Invariant::Laws,
        };
        Violation { invariant, at: broken.at, host: None, what: broken.to_string() }
    }

    /// Where nobody cheats nobody is accused.
    pub(super) fn check_accusations(&self) -> Result<(), Violation> {
        match self.world.accusation() {
            Some((host, what)) if !self.has_cheaters => {
                Err(self.violation(Invariant::Clean, Some(*host), format!("an honest host is accused: {what}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What guests of the core were answered is what they may hear, and each command was answered.
    pub(super) fn check_guests(&self) -> Result<(), Violation> {
        for (plan, guest) in self.case.guests.iter().zip(&self.guests) {
            if plan.present == Present::No || !self.core.contains(&plan.node) {
                continue;
            }
            let guest = guest.0.borrow();
            let complaint = guest.complaints().first().cloned().or_else(|| guest.unanswered());
            if let Some(what) = complaint {
                return Err(self.violation(Invariant::Report, Some(self.case.host(Role::Node(plan.node))), what));
            }
        }
        Ok(())
    }

    /// After a rest nothing is left of what was under way: every app has one session and no command that waits, every node
    /// at most one session with an index server, and those do not wait for a report for ever (I17): what no neighbour could
    /// prove to be fresh is brought by a heartbeat.
    pub(super) fn check_sessions(&self, indexes: &[HostId]) -> Result<(), Violation> {
        let fail = |host: HostId, what| Err(self.violation(Invariant::Bounds, Some(host), what));
        for &number in &self.core {
            let host = self.case.host(Role::Node(number));
            let Some(node) = self.world.machine::<Node>(host) else { continue };
            let is_there = |guest: &&GuestPlan| guest.node == number && guest.present == Present::Yes;
            let (apps, sessions) = (1 + self.case.guests.iter().filter(is_there).count(), node.sessions_of_apps());
            if sessions.sessions() > apps || sessions.commands() > 0 {
                let what = format!("{apps} apps, {} sessions, {} commands", sessions.sessions(), sessions.commands());
                return fail(host, what);
            }
        }
        let mut clients = 0;
        for &host in indexes {
            let Some(server) = self.world.machine::<IndexServer>(host) else { continue };
            let stats = server.stats();
            clients += stats.clients;
            let now = self.world.local_now(host);
            let waits_for_ever = stats.wanted_since.is_some_and(|at| at + WANT_PATIENCE + INDEX_TICK.times(2) < now);
            if waits_for_ever || stats.neighbours >= indexes.len() || clients > self.core.len() {
                return fail(host, format!("{clients} sessions of {} nodes so far, {stats:?}", self.core.len()));
            }
        }
        Ok(())
    }

    /// What the machines came to is what they may come to here.
    pub(super) fn check_marks(&mut self) -> Result<(), Violation> {
        self.reached = crate::marks::take();
        let reasons = Reasons { cheaters: self.has_cheaters, forgetful: !self.injector.forgetful().is_empty() };
        match unreasonable(&self.reached, reasons) {
            None => Ok(()),
            Some(mark) => Err(self.violation(Invariant::Clean, None, format!("without a reason: {mark}"))),
        }
    }
}
