//! The liveness phase: an honest core is healed, and then it must come to rest and work.
//!
//! The core is every node that takes part and has not left for good. What is open with anybody else may stay open for ever:
//! a request that waits for somebody who is gone is nobody's fault, and nobody can end it honestly but those who hold it.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::node::Node;
use offset_protocol::bytes::{InvoiceId, PublicKey, RequestId};
use offset_protocol::codec::List;
use offset_protocol::friend::Operation as ChannelOperation;
use offset_protocol::index::{MultiRoute, RoutePart};
use offset_protocol::machine::Duration;
use offset_protocol::money::Currency;
use offset_protocol::payment::CancelReason;

use super::flow::{Capacities, max_flow};
use super::settings;
use super::{Run, Watch};
use crate::case::{Commit, Operation, Role};
use crate::check::bounds::When;
use crate::check::servers::AtRelays;
use crate::check::{Invariant, Violation, report, servers};
use crate::dice::Dice;
use crate::faults::Victims;
use crate::host::HostId;
use crate::people::{DealId, Note, Stage};

/// After healing everything that is open ends within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(240);
/// A probe is paid within this time: a few tries.
const PROBE_LIMIT: Duration = Duration::from_secs(150);
/// A probe is tried so often: connections that fell silent are found out by keepalives, and dialled again after a while.
const PROBE_TRIES: u32 = 30;
/// A try of a probe is given up after this long.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);
/// Where buffers hold less than a few messages, a payment takes half a minute, and everything so much longer.
const SMALL_BUFFER: usize = 4_096;
const SLOWLY: u64 = 3;
/// A friendship or a flow with less room than this is not probed: fees and rounding would have to be looked at.
const PROBE_ROOM: u128 = 1_000;
/// What mediators of a probe may get: more than they ever ask.
const PROBE_FEE: u128 = 1_000_000_000;
/// How many pairs of nodes try a part of their maximum flow, and which part: the rest is room for fees and for what one
/// payment of at most 16 routes cannot gather.
const FLOW_PROBES: u32 = 3;
const FLOW_PART: u128 = 4;
/// Numbers of probes begin here; deals of cases are below.
pub(super) const FIRST_PROBE: u64 = 1 << 40;
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_secs(1);
/// Quiet time at the end, and how many turns a host may take in it: heartbeats, keepalives, acknowledgements. A relay and
/// an index server hear of each of their nodes.
const REST: Duration = Duration::from_secs(75);
const REST_TURNS: u64 = 120;
/// Two heartbeats: small changes of capacity are told to index servers with the next one.
const CHEATERS_REST: Duration = Duration::from_secs(75);

/// What a node can push to a friend.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// If it ends there.
    ends: u128,
    /// If it goes on from there.
    goes_on: u128,
}

impl Run<'_> {
    /// Ends every fault that can end; who is gone stays gone.
    pub(super) fn heal(&mut self) {
        let gone = |world: &crate::world::World, host: &HostId| world.is_retired(*host);
        let all = (0..self.case.hosts()).map(HostId);
        let hosts: Vec<HostId> = all.filter(|host| !gone(&self.world, host)).collect();
        let with_disk =
            hosts.iter().copied().filter(|host| matches!(self.case.role(*host), Some(Role::Node(_)))).collect();
        self.injector.heal(&mut self.world, &Victims { hosts, with_disk });
        let (case, world) = (self.case, &self.world);
        self.core.retain(|&node| !gone(world, &case.host(Role::Node(node))));
        self.replace_servers();
    }

    /// Runs until nothing is open; gives how long that took.
    pub(super) fn settle(&mut self) -> Result<Duration, Violation> {
        let began = self.world.now();
        loop {
            self.run_until(self.world.now() + LOOK)?;
            match self.find_open() {
                None => return Ok(self.world.now().since(began)),
                Some((host, what)) if self.world.now() > began + SETTLE_LIMIT => {
                    return Err(self.violation(Invariant::Resolution, host, what));
                }
                Some(_) => {}
            }
        }
    }

    /// What of the core is not at rest.
    fn find_open(&self) -> Option<(Option<HostId>, String)> {
        let (excused, excused_invoices) = self.held_by_others();
        for (&deal, (buyer, seller)) in &self.deals {
            if self.core.contains(buyer) && self.core.contains(seller) {
                let open = self.open_deal(deal, (*buyer, *seller), &excused_invoices);
                if let Some(what) = open {
                    return Some((Some(self.case.host(Role::Node(*buyer))), what));
                }
            }
        }
        for pair in self.case.friendships.iter().filter(|pair| self.are_linked(pair.a, pair.b)) {
            if !self.agree(pair.a, pair.b) {
                let what = format!("nodes {} and {} do not agree, and nobody has accepted terms", pair.a, pair.b);
                return Some((Some(self.case.host(Role::Node(pair.a))), what));
            }
        }
        if let Some((node, gone)) = self.link_to_nobody() {
            let what = format!("node {node} thinks that it is connected with node {gone}, which is gone");
            return Some((Some(self.case.host(Role::Node(node))), what));
        }
        for &node in &self.core {
            let person = self.people[node as usize].0.borrow();
            if !person.is_set_up() {
                let unanswered: Vec<_> = person.unanswered().collect();
                return Some((None, format!("person {node} is not done setting up, unanswered {unanswered:?}")));
            }
        }
        if self.world.has_notes() {
            return Some((None, "a note between people is on its way".to_owned()));
        }
        self.core_hosts().into_iter().find_map(|host| self.open_at(host, &excused).map(|what| (Some(host), what)))
    }

    /// A core node that has not noticed yet that a friend is gone for good. What it sends there nobody will ever answer: a
    /// payment that is begun before it notices may stay open for ever.
    fn link_to_nobody(&self) -> Option<(u32, u32)> {
        let is_gone = |node: u32| self.world.is_retired(self.case.host(Role::Node(node)));
        let ends = self.case.friendships.iter().flat_map(|pair| [(pair.a, pair.b), (pair.b, pair.a)]);
        let mut to_nobody = ends.filter(|(us, friend)| self.core.contains(us) && is_gone(*friend));
        to_nobody.find(|(us, friend)| self.channel(*us, *friend).is_some_and(Channel::is_resumed))
    }

    fn open_deal(&self, deal: DealId, (buyer, seller): (u32, u32), excused: &BTreeSet<InvoiceId>) -> Option<String> {
        let (buyer, seller) = (self.people[buyer as usize].0.borrow(), self.people[seller as usize].0.borrow());
        let bought = buyer.deals().purchases().find(|(id, _)| *id == deal).map(|(_, purchase)| purchase);
        let sold = seller.deals().sales().find(|(id, _)| *id == deal).map(|(_, sale)| sale);
        let open = bought.is_some_and(|purchase| purchase.stage == Stage::Open)
            || sold.is_some_and(|sale| sale.stage == Stage::Open);
        let is_excused = sold.is_some_and(|sale| excused.contains(&sale.invoice_id));
        (open && !is_excused).then(|| {
            let places = sold.map_or_else(Vec::new, |sale| self.places_of(&sale.invoice_id));
            let silent = self.silent_pairs();
            format!(
                "{deal:?}: the buyer has {bought:?}, the seller {sold:?}, requests are open at {places:?}, \
                 no batches flow between {silent:?}"
            )
        })
    }

    /// Friends between whom nothing flows: where each listens, and where it thinks that the other does.
    fn silent_pairs(&self) -> Vec<String> {
        let mut silent = Vec::new();
        for (us, friend) in self.case.friendships.iter().flat_map(|pair| [(pair.a, pair.b), (pair.b, pair.a)]) {
            let Some(channel) = self.channel(us, friend).filter(|_| self.are_linked(us, friend)) else { continue };
            let made = channel.marks().made;
            let applied = self.channel(friend, us).map(|channel| channel.marks().applied);
            if applied != Some(made) {
                let resumed = channel.is_resumed();
                silent.push(format!("{us} to {friend}: made {made}, applied {applied:?}, resumed {resumed}"));
            }
            if !channel.is_resumed() {
                let relays = |list: &[offset_protocol::relay::RelayAddress]| {
                    list.iter().map(|relay| relay.address.to_string()).collect::<Vec<_>>()
                };
                let (ours, theirs) = (relays(channel.our_relays()), relays(channel.friend_relays()));
                let standing = channel.standing();
                silent.push(format!("{us} to {friend}: at {ours:?}, friend at {theirs:?}, {standing:?}"));
            }
        }
        silent
    }

    /// Where requests that pay an invoice are open: node, friend, whose request, whether it is answered.
    fn places_of(&self, invoice: &InvoiceId) -> Vec<(u32, Option<u32>, &'static str, bool)> {
        let mut places = Vec::new();
        let nodes = 0..self.case.nodes.len() as u32;
        let host = |node: u32| self.case.host(Role::Node(node));
        let number = |key: PublicKey| nodes.clone().find(|node| self.world.key_of(host(*node)) == key);
        for at in nodes.clone() {
            let Some(node) = self.world.machine::<Node>(host(at)) else { continue };
            for channel in node.money().channels() {
                let out = channel.all_outgoing().map(|(_, open)| ("sent", open));
                let all = out.chain(channel.all_incoming().map(|(_, open)| ("received", open)));
                let of_invoice = all.filter(|(_, open)| open.request.invoice_id == *invoice);
                let friend = number(channel.friend());
                places.extend(of_invoice.map(|(way, open)| (at, friend, way, open.response.is_some())));
            }
        }
        places
    }

    /// Requests over friendships that carry nothing any more, and the invoices that they pay: the friend is gone, or one
    /// of the two does not want to be connected.
    fn held_by_others(&self) -> (BTreeSet<RequestId>, BTreeSet<InvoiceId>) {
        let (mut held, mut invoices) = (BTreeSet::new(), BTreeSet::new());
        for pair in self.case.friendships.iter().filter(|pair| !self.are_linked(pair.a, pair.b)) {
            for channel in [self.channel(pair.a, pair.b), self.channel(pair.b, pair.a)].into_iter().flatten() {
                held.extend(requests(channel));
                let open = channel.all_outgoing().chain(channel.all_incoming());
                invoices.extend(open.map(|(_, open)| open.request.invoice_id));
            }
        }
        let unreliable = self.deals_with_cheaters();
        for channel in self
            .core_hosts()
            .into_iter()
            .filter_map(|host| self.world.machine::<Node>(host))
            .flat_map(|node| node.money().channels())
        {
            let open = channel.all_outgoing().chain(channel.all_incoming()).map(|(_, open)| &open.request);
            held.extend(
                open.filter(|request| unreliable.contains(&request.invoice_id)).map(|request| request.request_id),
            );
        }
        (held, invoices)
    }

    fn open_at(&self, host: HostId, excused: &BTreeSet<RequestId>) -> Option<String> {
        let Some(node) = self.world.machine::<Node>(host) else { return Some("the node is off".to_owned()) };
        let funder = node.money();
        if let Some(id) = funder.transits().find(|id| !excused.contains(id)) {
            return Some(format!("{id:?} is on its way: {}", self.describe(&id)));
        }
        for channel in funder.channels() {
            if let Some(id) = requests(channel).find(|id| !excused.contains(id)) {
                return Some(format!("{id:?} with {:?}", channel.friend()));
            }
        }
        None
    }

    /// Where a request stands, all over the core.
    fn describe(&self, id: &RequestId) -> String {
        let mut places = Vec::new();
        for &node in &self.core {
            let Some(machine) = self.world.machine::<Node>(self.case.host(Role::Node(node))) else { continue };
            let funder = machine.money();
            places.extend(funder.describe_transit(id).map(|transit| format!("node {node}: {transit}")));
            for channel in funder.channels().filter(|channel| requests(channel).any(|held| held == *id)) {
                places.push(format!("node {node} holds it with {:?}, {:?}", channel.friend(), channel.standing()));
            }
        }
        places.join("; ")
    }

    // -- probes

    /// Every live friendship pays a little; a few pairs pay a part of their maximum flow. Gives how many were paid.
    pub(super) fn probe(&mut self) -> Result<usize, Violation> {
        let mut next = FIRST_PROBE;
        let mut probes = Vec::new();
        for currency in 0..self.case.currencies.len() as u32 {
            let rooms = self.rooms(currency);
            for (&(from, to), _) in rooms.iter().filter(|(pair, room)| room.ends >= PROBE_ROOM && pair.0 < pair.1) {
                probes.push(self.begin_probe(&mut next, (from, to), currency, 1));
            }
        }
        self.await_probes(&probes)?;
        let mut dice = Dice::new(&offset_protocol::machine::Seed::from_number(self.case.seed), "probes");
        let mut paid = probes.len();
        if self.case.has_cheaters() {
            // The cheapest way may lead over one of them, and there is no judge who could say so.
            return Ok(paid);
        }
        for _ in 0..FLOW_PROBES {
            let core: Vec<u32> = self.core.iter().copied().collect();
            let (Some(&from), Some(&to)) = (dice.pick(&core), dice.pick(&core)) else { break };
            let currency = dice.below(self.case.currencies.len().max(1) as u64) as u32;
            let flow = max_flow(&self.capacities(currency, to), from, to);
            if flow >= PROBE_ROOM {
                let probe = self.begin_probe(&mut next, (from, to), currency, flow / FLOW_PART);
                self.await_probes(&[probe])?;
                paid += 1;
            }
        }
        Ok(paid)
    }

    /// What each core node can push to each core friend of a payment to `seller`: there it ends, elsewhere it goes on.
    fn capacities(&self, currency: u32, seller: u32) -> Capacities {
        let counts = |(edge, room): ((u32, u32), Room)| (edge, if edge.1 == seller { room.ends } else { room.goes_on });
        self.rooms(currency).into_iter().map(counts).collect()
    }

    /// What each core node can push to each core friend, where both are willing.
    fn rooms(&self, currency: u32) -> BTreeMap<(u32, u32), Room> {
        let mut all = BTreeMap::new();
        let Some(currency) = self.case.currencies.get(currency as usize).map(|name| name.0) else { return all };
        for friendship in &self.case.friendships {
            for (from, to) in [(friendship.a, friendship.b), (friendship.b, friendship.a)] {
                if let Some(room) = self.room(from, to, &currency) {
                    all.insert((from, to), room);
                }
            }
        }
        all
    }

    fn room(&self, from: u32, to: u32, currency: &Currency) -> Option<Room> {
        if !self.are_linked(from, to) {
            return None;
        }
        let (ours, theirs) = (self.channel(from, to)?, self.channel(to, from)?);
        let open = |channel: &Channel| channel.currency(currency).is_some_and(|report| report.is_open && report.listed);
        let room = || Room { ends: theirs.recv_capacity(currency), goes_on: theirs.forward_capacity(currency) };
        (open(ours) && open(theirs)).then(room)
    }

    pub(super) fn channel(&self, of: u32, with: u32) -> Option<&Channel> {
        let friend = self.world.key_of(self.case.host(Role::Node(with)));
        let node = self.world.machine::<Node>(self.case.host(Role::Node(of)))?;
        node.money().channel(&friend)
    }

    /// Whether both are in the core, want to be connected, and agree on what happened or will agree again.
    fn are_linked(&self, a: u32, b: u32) -> bool {
        self.want_each_other(a, b) && (self.agree(a, b) || self.may_agree(a) || self.may_agree(b))
    }

    /// Whether neither end has found the other inconsistent.
    fn agree(&self, a: u32, b: u32) -> bool {
        let fits = |channel: Option<&Channel>| {
            channel.is_none_or(|channel| !matches!(channel.standing(), Standing::Inconsistent { .. }))
        };
        fits(self.channel(a, b)) && fits(self.channel(b, a))
    }

    fn may_agree(&self, node: u32) -> bool {
        self.case.nodes.get(node as usize).is_some_and(|plan| plan.accepts_reset_after.is_some())
    }

    fn want_each_other(&self, a: u32, b: u32) -> bool {
        let wants = |us: u32, friend: u32| {
            let key = self.world.key_of(self.case.host(Role::Node(friend)));
            self.people[us as usize].0.borrow().book().friends.get(&key).is_some_and(|friend| friend.enabled)
        };
        self.core.contains(&a) && self.core.contains(&b) && wants(a, b) && wants(b, a)
    }

    fn begin_probe(&mut self, next: &mut u64, (buyer, seller): (u32, u32), currency: u32, amount: u128) -> DealId {
        let deal = DealId(*next);
        *next += 1;
        let operation = Operation::Pay {
            deal: deal.0,
            buyer,
            seller,
            currency,
            amount,
            max_fee: PROBE_FEE,
            commit: if deal.0.is_multiple_of(2) { Commit::ByHand } else { Commit::InBand },
            tries: PROBE_TRIES,
            patience: PROBE_PATIENCE.times(self.slowness()),
        };
        if let Some(mut note) = settings::order(self.case, &operation) {
            self.note_order(deal, (buyer, seller));
            if let Note::Order(order) = &mut note
                && self.case.has_cheaters()
            {
                // The cheapest way may lead over one of them.
                order.routes = Some(self.straight(buyer, seller, amount));
            }
            self.world.tell(self.case.host(Role::Person(buyer)), note);
        }
        deal
    }

    fn has_failed(&self, probe: DealId) -> bool {
        matches!(self.stage(probe), Some(Stage::Failed(_)))
    }

    /// Whether nobody can blame the nodes for a probe that was not paid.
    fn is_excused(&self, probe: DealId, is_late: bool) -> bool {
        self.is_crowded_out(probe) || (is_late || self.has_failed(probe)) && self.is_used_up(probe)
    }

    /// A cheater's payment that came through after the probe was chosen may have used a friendship of others up.
    fn is_used_up(&self, probe: DealId) -> bool {
        let Some(&(buyer, seller)) = self.deals.get(&probe).filter(|_| self.case.has_cheaters()) else { return false };
        let person = self.people[buyer as usize].0.borrow();
        let bought = person.deals().purchases().find(|(id, _)| *id == probe);
        let Some((currency, amount)) = bought.map(|(_, one)| (one.order.currency, one.order.amount)) else {
            return false;
        };
        self.room(buyer, seller, &currency).is_some_and(|room| room.ends < amount)
    }

    /// A cheater may fill a friendship of others with requests that its own people never answer: nothing takes them out.
    fn is_crowded_out(&self, probe: DealId) -> bool {
        let busy = |why: &str| why.contains(&CancelReason::Busy.to_string());
        self.case.has_cheaters() && matches!(self.stage(probe), Some(Stage::Failed(why)) if busy(&why))
    }

    /// From a node to its friend, over nobody.
    fn straight(&self, from: u32, to: u32, amount: u128) -> MultiRoute {
        let keys = [from, to].map(|node| self.world.key_of(self.case.host(Role::Node(node))));
        let part = RoutePart { route: List::truncated(keys), amount, fees: 0 };
        MultiRoute { parts: List::truncated([part]) }
    }

    fn slowness(&self) -> u64 {
        let conditions = &self.case.conditions;
        if conditions.send_buffer.min(conditions.receive_buffer) < SMALL_BUFFER { SLOWLY } else { 1 }
    }

    fn await_probes(&mut self, probes: &[DealId]) -> Result<(), Violation> {
        let limit = self.world.now() + PROBE_LIMIT.times(self.slowness());
        loop {
            let is_late = self.world.now() > limit;
            let is_unpaid = |probe: &&DealId| !self.is_paid(**probe) && !self.is_excused(**probe, is_late);
            let Some(&unpaid) = probes.iter().find(is_unpaid) else { return Ok(()) };
            let failed = probes.iter().filter(is_unpaid).find(|probe| self.has_failed(**probe));
            if failed.is_some() || is_late {
                let probe = *failed.unwrap_or(&unpaid);
                let ends = self.deals.get(&probe);
                let stands = ends.and_then(|ends| self.open_deal(probe, *ends, &BTreeSet::new())).unwrap_or_default();
                let stage = self.stage(probe);
                let what = format!("the probe {probe:?} between {ends:?} came to {stage:?}; {stands}");
                let host = ends.map(|(buyer, _)| self.case.host(Role::Node(*buyer)));
                return Err(self.violation(Invariant::Resolution, host, what));
            }
            self.run_until(self.world.now() + LOOK)?;
        }
    }

    // -- rest

    /// Checks what must hold at rest. Cheaters never rest: where there are some, what they do may be under way at any moment,
    /// so it must hold at one of the moments that follow. What is wrong for good is wrong at all of them.
    pub(super) fn await_what_holds_at_rest(&mut self) -> Result<(), Violation> {
        let until = self.world.now() + if self.case.has_cheaters() { CHEATERS_REST } else { Duration::ZERO };
        loop {
            match self.check_after_rest() {
                Err(_) if self.world.now() < until => self.run_until(self.world.now() + LOOK)?,
                result => return result,
            }
        }
    }

    /// Almost nothing happens when nobody wants anything.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        // What is at rest at the nodes may still be on its way to the people.
        self.run_until(self.world.now() + Duration::from_secs(3))?;
        self.check_books()?;
        if self.case.has_cheaters() {
            // They never rest.
            return self.run_until(self.world.now() + REST);
        }
        let before = self.world.counts().turns;
        self.run_until(self.world.now() + REST)?;
        let turns = self.world.counts().turns - before;
        let friendships = self.case.friendships.len() as u64;
        let most = REST_TURNS * (u64::from(self.case.hosts()) + friendships);
        if turns > most {
            let what = format!("{turns} turns of {} hosts in a time of rest, {most} at most", self.world.hosts());
            return Err(self.violation(Invariant::Resolution, None, what));
        }
        Ok(())
    }

    /// Nodes that took part and are not there any more.
    fn gone(&self) -> Vec<HostId> {
        let took_part = (0..self.case.nodes.len() as u32).map(Role::Node).filter(|role| self.case.is_present(*role));
        took_part.map(|role| self.case.host(role)).filter(|host| self.world.is_retired(*host)).collect()
    }

    /// Where somebody has left, waits until that has been noticed everywhere.
    pub(super) fn await_silence(&mut self) -> Result<(), Violation> {
        let noticed = self.case.heal_at + servers::FORGOTTEN_AFTER + LOOK;
        if self.gone().is_empty() || self.case.has_cheaters() { Ok(()) } else { self.run_until(noticed) }
    }

    /// What apps show, what index servers hold and what relays carry is what it should be. Only after a rest: a connection
    /// that fell silent has to be found out, and small changes are told to index servers with the next heartbeat.
    fn check_after_rest(&self) -> Result<(), Violation> {
        self.excuse_complaints();
        let cheaters = self.cheating_nodes();
        for &node in &self.core {
            let host = self.case.host(Role::Node(node));
            report::check(&self.world, host, &self.people[node as usize], &cheaters)?;
        }
        self.check_guests()?;
        self.check_delivered()?;
        if self.options.watch == Watch::Always {
            self.check_ledger()?;
        }
        let present = |role: &Role| {
            let host = self.case.host(*role);
            self.case.is_present(*role) && self.case.is_honest(*role) && !self.world.is_retired(host)
        };
        let indexes = (0..self.case.indexes.len() as u32).map(Role::Index).filter(present);
        let indexes: Vec<HostId> = indexes.map(|role| self.case.host(role)).collect();
        servers::check_indexes(&self.world, &indexes, &self.core_hosts(), &cheaters)?;
        for index in &indexes {
            servers::check_offers(&self.world, *index)?;
        }
        if self.world.now() > self.case.heal_at + servers::FORGOTTEN_AFTER {
            servers::check_gone(&self.world, &indexes, &self.gone())?;
        }
        if self.case.has_cheaters() {
            return Ok(());
        }
        self.check_sessions(&indexes)?;
        let relays = (0..self.case.relays.len() as u32).map(Role::Relay).filter(present);
        let relays: Vec<HostId> = relays.map(|role| self.case.host(role)).collect();
        let listeners: Vec<usize> = relays.iter().map(|relay| self.listeners(*relay)).collect();
        // Who does not agree is connected all the same: that is how terms are told.
        let tunnels = self.case.friendships.iter().filter(|pair| self.want_each_other(pair.a, pair.b)).count();
        let knocking = self.case.friendships.len() - tunnels;
        servers::check_relays(&self.world, &relays, &AtRelays { listeners, tunnels, knocking })
    }

    /// The books of our own, against what nodes and people have.
    fn check_ledger(&self) -> Result<(), Violation> {
        let (held, _) = self.held_by_others();
        self.friendships.check_whole(&self.world, |id| held.contains(id))?;
        let person = |&node: &u32| (self.case.host(Role::Node(node)), &self.people[node as usize]);
        let ends = |(deal, (buyer, seller)): (&DealId, &(u32, u32))| (*deal, [person(buyer), person(seller)]);
        let is_core =
            |(_, (buyer, seller)): &(&DealId, &(u32, u32))| self.core.contains(buyer) && self.core.contains(seller);
        // What went over a friendship that somebody forgot or ended is in no ledger: neither who paid in the end nor who lost.
        if self.friendships.is_whole() {
            self.friendships.check_receipts(&self.world, self.deals.iter().filter(is_core).map(ends))?;
            let currencies: Vec<Currency> = self.case.currencies.iter().map(|name| name.0).collect();
            self.friendships.check_losses(&self.world, self.core.iter().map(person), &currencies)?;
        }
        // What was said to a friend who is gone is never signed for.
        let all_linked = self.case.friendships.iter().all(|pair| self.are_linked(pair.a, pair.b));
        let when = if held.is_empty() && all_linked { When::AtRest } else { When::Busy };
        self.friendships.check_sizes(&self.world, when)
    }

    fn listeners(&self, relay: HostId) -> usize {
        let key = self.world.key_of(relay);
        let nodes = self.core_hosts().into_iter().filter_map(|host| self.world.machine::<Node>(host));
        nodes.filter(|node| node.money().listens_on().any(|relay| relay == key)).count()
    }

    /// Both ends of every live friendship have applied all that the other made.
    fn check_delivered(&self) -> Result<(), Violation> {
        for pair in self.case.friendships.iter().filter(|pair| self.are_linked(pair.a, pair.b)) {
            let (Some(a), Some(b)) = (self.channel(pair.a, pair.b), self.channel(pair.b, pair.a)) else { continue };
            let (ours, theirs) = (a.marks(), b.marks());
            if ours.epoch != theirs.epoch || ours.made != theirs.applied || theirs.made != ours.applied {
                let what = format!("nodes {} and {}: {ours:?} and {theirs:?}, not all delivered", pair.a, pair.b);
                let host = Some(self.case.host(Role::Node(pair.a)));
                return Err(self.violation(Invariant::Resolution, host, what));
            }
        }
        Ok(())
    }
}

/// Every request that a channel holds or has queued.
fn requests(channel: &Channel) -> impl Iterator<Item = RequestId> {
    let open = channel.all_outgoing().chain(channel.all_incoming()).map(|(_, open)| open.request.request_id);
    let queued = channel.all_queued().map(|(_, operation)| match operation {
        ChannelOperation::Request(request) => request.request_id,
        ChannelOperation::Response(response) => response.request_id,
        ChannelOperation::Cancel(cancel) => cancel.request_id,
        ChannelOperation::Commit(commit) => commit.request_id,
        ChannelOperation::Withdraw(withdraw) => withdraw.request_id,
        ChannelOperation::Collect(collect) => collect.request_id,
    });
    open.chain(queued)
}
