//! What a run tells its recorder: payments as their buyers see them, and now and then how the world stands.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::friend_channel::Channel;
use offset_funder_sm::ledger::OpenRequest;
use offset_funder_sm::node::Node;
use offset_index_sm::server::IndexServer;
use offset_protocol::bytes::InvoiceId;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::money::Currency;

use super::Run;
use super::healing::FIRST_PROBE;
use crate::case::Role;
use crate::people::{DealId, Stage};
use crate::result::{End, Ended, Hit, Recorder, Sample};

/// The world is looked at so often; rarer the more hosts there are, because a look costs as much as all of them.
const LOOK: Duration = Duration::from_secs(1);
const HOSTS_PER_LOOK: u64 = 400;

/// When the world is looked at next.
pub(super) struct Looks {
    every: Duration,
    next: Instant,
}

impl Looks {
    pub(super) fn new(hosts: u32) -> Self {
        Looks { every: LOOK.times(1 + u64::from(hosts) / HOSTS_PER_LOOK), next: Instant::ZERO }
    }

    /// Whether it is time.
    pub(super) fn are_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

/// What friends could pass on while nothing is open, and what of it requests of cheaters hold.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    frozen: u128,
    whole: u128,
}

impl Line {
    /// What the friend at the other end of a channel could pass to this one.
    fn of(channel: &Channel, invoices: &BTreeSet<InvoiceId>) -> Line {
        let is_cheaters = |open: &OpenRequest| !open.refused && invoices.contains(&open.request.invoice_id);
        let held = channel.all_incoming().filter(|(_, open)| is_cheaters(open));
        let whole = |currency: &Currency| channel.recv_capacity(currency) + channel.accepted_frozen(currency);
        Line {
            frozen: held.map(|(_, open)| open.frozen()).sum(),
            whole: channel.currencies().map(|report| whole(&report.currency)).sum(),
        }
    }

    fn add(&mut self, other: &Line) {
        (self.frozen, self.whole) = (self.frozen + other.frozen, self.whole + other.whole);
    }

    fn frozen_per_mille(&self) -> u64 {
        (1_000 * self.frozen).checked_div(self.whole).unwrap_or(0) as u64
    }
}

/// What a node could pay, and what it could be paid, over honest friends.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    paying: Line,
    paid: Line,
}

impl Lines {
    /// What is frozen of the way that is hit harder, as a part of what the two ways have on average. Of the average, because a
    /// payment moves as much from one way to the other: who has been paid all that it can be paid is not an attacker's victim.
    fn frozen_per_mille(&self) -> u64 {
        let frozen = self.paying.frozen.max(self.paid.frozen);
        Line { frozen: 2 * frozen, whole: self.paying.whole + self.paid.whole }.frozen_per_mille()
    }
}

impl Run<'_> {
    /// Tells that a payment is ordered.
    pub(super) fn record_order(&mut self, ends: (u32, u32)) {
        if self.is_with_cheater(ends) {
            self.recorder.order_with_cheater();
        } else {
            self.recorder.order(self.world.now());
        }
    }

    fn is_with_cheater(&self, (buyer, seller): (u32, u32)) -> bool {
        !(self.case.is_honest(Role::Node(buyer)) && self.case.is_honest(Role::Node(seller)))
    }

    /// Whether a deal counts among the payments of the honest: a probe is no person's payment.
    fn is_counted(&self, deal: DealId) -> bool {
        deal.0 < FIRST_PROBE && self.deals.get(&deal).is_some_and(|ends| !self.is_with_cheater(*ends))
    }

    /// Tells what has become of the deals of the person of `node`.
    pub(super) fn record_deals(&mut self, node: u32) {
        let Some(person) = self.people.get(node as usize) else { return };
        let ended = person.0.borrow_mut().take_ended();
        for deal in ended {
            if !self.is_counted(deal) {
                continue;
            }
            if let Some(ended) = self.ended(node, deal) {
                self.recorder.ended(self.world.now(), ended);
            }
        }
    }

    fn ended(&self, buyer: u32, deal: DealId) -> Option<Ended> {
        let ordered_at = *self.ordered_at.get(&deal)?;
        let person = self.people.get(buyer as usize)?.0.borrow();
        let purchase = person.deals().purchase(deal)?;
        let (fee, end) = match &purchase.stage {
            Stage::Paid { fees } => (*fees, End::Paid),
            Stage::Failed(why) => (0, End::Failed(why.clone())),
            Stage::Open | Stage::PaidInPart { .. } => return None,
        };
        let latency = self.world.now().since(ordered_at);
        Some(Ended { latency, attempts: purchase.tries(), hops: purchase.hops(), fee, end })
    }

    /// How the world stands.
    pub(super) fn sample(&self) -> Sample {
        let mut sample = Sample {
            faults_active: self.injector.active() as u64,
            events: self.world.counts().events,
            ..Sample::default()
        };
        let (mut directions, mut saturated) = (0_u64, 0_u64);
        for host in self.core_hosts() {
            let Some(node) = self.world.machine::<Node>(host) else { continue };
            for channel in node.money().channels() {
                sample.open += channel.all_outgoing().count() as u64;
                for report in channel.currencies() {
                    sample.frozen += report.out_frozen;
                    directions += 1;
                    saturated += u64::from(channel.recv_capacity(&report.currency) < report.max_debt / 10);
                }
            }
        }
        sample.saturated_per_mille = (1_000 * saturated).checked_div(directions).unwrap_or(0);
        sample.index_behind = self.reports_behind();
        sample
    }

    /// What requests of cheaters freeze of the lines between honest nodes: of each node's, and of all together. What an honest
    /// buyer has promised to a silent seller is not in it: nobody but the buyer can help that.
    pub(super) fn record_hits(&mut self, sample: &mut Sample) {
        if !self.case.has_cheaters() {
            return;
        }
        let invoices = self.bought_by_cheaters();
        let mut nodes: BTreeMap<u32, Lines> = BTreeMap::new();
        let mut all = Line::default();
        for friendship in &self.case.friendships {
            let ends = [friendship.a, friendship.b];
            if !ends.iter().all(|end| self.core.contains(end)) {
                continue;
            }
            for (to, from) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                let Some(channel) = self.channel(to, from) else { continue };
                let line = Line::of(channel, &invoices);
                all.add(&line);
                nodes.entry(from).or_default().paying.add(&line);
                nodes.entry(to).or_default().paid.add(&line);
            }
        }
        for (node, lines) in nodes {
            self.recorder.hit(Hit { frozen_per_mille: lines.frozen_per_mille(), node });
        }
        sample.frozen_by_cheaters_per_mille = all.frozen_per_mille();
    }

    /// Reports that some index server does not have as its node would give it now.
    fn reports_behind(&self) -> u64 {
        let mut behind = 0;
        for number in 0..self.case.indexes.len() as u32 {
            let server = self.world.machine::<IndexServer>(self.case.host(Role::Index(number)));
            let Some(graph) = server.map(IndexServer::graph) else { continue };
            for host in self.core_hosts() {
                let Some(node) = self.world.machine::<Node>(host) else { continue };
                let mut truth: Vec<_> = node.money().published().collect();
                let mut held = graph.report(&self.world.key_of(host));
                truth.sort();
                held.sort();
                behind += u64::from(truth != held);
            }
        }
        behind
    }

    /// Deals that nobody can end any more: the run has come to rest without them, so somebody who is gone holds them.
    pub(super) fn record_held(&mut self) {
        let open: Vec<DealId> = self
            .deals
            .keys()
            .copied()
            .filter(|deal| self.is_counted(*deal))
            .filter(|deal| self.stage(*deal).is_none_or(|stage| stage == Stage::Open))
            .collect();
        for deal in open {
            let latency = self.ordered_at.get(&deal).map_or(Duration::ZERO, |at| self.world.now().since(*at));
            let end = End::Failed("held by somebody who is gone or cheats".to_owned());
            self.recorder.ended(self.world.now(), Ended { latency, attempts: 1, hops: 0, fee: 0, end });
        }
    }

    /// What is known at the end.
    pub(super) fn record_end(&self, recorder: &mut Recorder) {
        let counts = self.world.counts();
        let named = [
            ("turns of machines", counts.turns),
            ("writes flushed", counts.flushes),
            ("crashes", counts.crashes),
            ("connections made", counts.net.made),
            ("bytes that arrived", counts.net.bytes),
        ];
        named.into_iter().for_each(|(name, count)| recorder.count(name, count));
        let evidence = self.evidence.get();
        evidence.played.iter().for_each(|(trick, times)| recorder.trick(&trick.to_string(), *times));
        evidence.noticed.iter().for_each(|(what, times)| recorder.noticed(what, *times));
        for number in 0..self.case.relays.len() as u32 {
            recorder.relay(number, self.world.bytes_to(self.case.host(Role::Relay(number))));
        }
        recorder.marks(self.reached.clone());
        recorder.marks(crate::marks::take());
    }
}
