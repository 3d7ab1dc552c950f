//! A case: one run, written down whole. Who is there, who trusts whom, what people do, what goes wrong, and when.
//!
//! | | |
//! |---|---|
//! | a scenario and a seed | are drawn into a case, and into the same one every time |
//! | a case | runs without the generator that drew it: it survives changes of the generator, and can be cut smaller |
//!
//! Hosts are numbered in one order: relays, index servers, nodes, the person of each node, strangers, guests. Numbers stay when
//! somebody is taken out of a case ([`Present::No`]), so that what is left goes on as before.
//!
//! What a case does not fix is drawn at run time from its `seed`, each thing from a generator of its own: how long each
//! packet takes, keys, nonces, in what order simultaneous things are taken.

use std::fmt;

use offset_protocol::app::Permissions;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::money::{Currency, Rate};
use serde::{Deserialize, Serialize};

use crate::cheats::{FriendTrick, IndexTrick, PersonTrick, Play, RelayTrick, ReportTrick, StrangerTrick};
use crate::faults::Fault;
use crate::host::HostId;
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::Conditions;
use crate::signatures::Signatures;

/// The format of case files; another number is refused.
pub const FORMAT: u32 = 1;

/// How much of the world is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// Everything: connections, encryption, relays, index servers, apps, disks.
    Full,
    /// The money and its routes only: typed messages between funders, one index.
    Funds,
}

/// Whether the machines show rare but legal behaviour more often than by themselves (see [`crate::marks`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rare {
    /// They behave as in production.
    #[default]
    Off,
    /// Each site is on or off for the whole run, drawn from the seed.
    Drawn,
}

/// Whether somebody takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Present {
    /// Takes part.
    #[default]
    Yes,
    /// Was taken out; the number is kept.
    No,
}

/// One run. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// [`FORMAT`].
    pub format: u32,
    /// The scenario that it was drawn from.
    pub scenario: String,
    /// What is not fixed below is drawn from this.
    pub seed: u64,
    /// How much is simulated.
    pub fidelity: Fidelity,
    /// Which signatures.
    pub signatures: Signatures,
    /// How channels agree on keys.
    #[serde(default, skip_serializing_if = "Keys::are_real")]
    pub keys: Keys,
    /// Rare but legal behaviour of the machines themselves.
    #[serde(default)]
    pub rare: Rare,
    /// The network when nothing is broken.
    pub conditions: Conditions,
    /// How long a word between two people takes.
    pub note: Latency,
    /// The currencies; others name them by their place in this list.
    pub currencies: Vec<CurrencyName>,
    /// The relays.
    pub relays: Vec<ServerPlan>,
    /// The index servers, which all trust each other.
    pub indexes: Vec<ServerPlan>,
    /// The nodes, each with its person.
    pub nodes: Vec<NodePlan>,
    /// Hosts that are nobody's friend and only attack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<StrangerPlan>,
    /// Apps with fewer rights than a node's person has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<GuestPlan>,
    /// Who is whose friend. A pair stands here once.
    pub friendships: Vec<Friendship>,
    /// What people do, in order of time.
    pub operations: Vec<Timed<Operation>>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Timed<Fault>>,
    /// The safety phase ends and everything is healed.
    pub heal_at: Instant,
}

/// A currency, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CurrencyName(pub Currency);

impl TryFrom<String> for CurrencyName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(CurrencyName).map_err(|error| format!("{text:?}: {error}"))
    }
}

impl From<CurrencyName> for String {
    fn from(name: CurrencyName) -> String {
        name.0.to_string()
    }
}

/// Something at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed<T> {
    /// Microseconds from the beginning.
    pub at: Instant,
    /// What.
    pub what: T,
}

/// A relay or an index server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPlan {
    /// Whether it is there.
    #[serde(default)]
    pub present: Present,
    /// How its clock drifts, in millionths.
    #[serde(default)]
    pub drift_ppm: i32,
    /// The tricks that it plays; an honest server plays none.
    #[serde(default, skip_serializing_if = "ServerCheat::is_honest")]
    pub cheat: ServerCheat,
}

/// The tricks of a server. A relay plays those of relays only, an index server those of index servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerCheat {
    /// As a relay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<Play<RelayTrick>>,
    /// As an index server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub index: Vec<Play<IndexTrick>>,
}

impl ServerCheat {
    /// Whether there is no trick.
    pub const fn is_honest(&self) -> bool {
        self.relay.is_empty() && self.index.is_empty()
    }
}

/// The tricks of a node and its person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCheat {
    /// Towards each friend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub friend: Vec<Play<FriendTrick>>,
    /// As buyer and seller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub person: Vec<Play<PersonTrick>>,
    /// Towards index servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<Play<ReportTrick>>,
}

impl NodeCheat {
    /// Whether there is no trick.
    pub const fn is_honest(&self) -> bool {
        self.friend.is_empty() && self.person.is_empty() && self.report.is_empty()
    }
}

/// A host that is nobody's friend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrangerPlan {
    /// Whether it is there.
    #[serde(default)]
    pub present: Present,
    /// The tricks that it plays.
    pub cheat: Vec<Play<StrangerTrick>>,
}

/// An app that may do less than its node's person, and tries the rest too. See [`crate::guests`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestPlan {
    /// Whether it is there.
    #[serde(default)]
    pub present: Present,
    /// At which node, by number from 0.
    pub node: u32,
    /// What it may do.
    pub may: Vec<Right>,
}

/// A right of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// To ask for routes.
    Routes,
    /// To pay.
    Buyer,
    /// To be paid.
    Seller,
    /// To change settings.
    Config,
}

impl Right {
    /// All of them.
    pub const ALL: [Right; 4] = [Right::Routes, Right::Buyer, Right::Seller, Right::Config];

    /// What a node is told of them.
    pub fn permissions(rights: &[Right]) -> Permissions {
        let may = |right| rights.contains(&right);
        let (routes, buyer) = (may(Right::Routes), may(Right::Buyer));
        Permissions { routes, buyer, seller: may(Right::Seller), config: may(Right::Config) }
    }
}

/// A node and its person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Whether they are there.
    #[serde(default)]
    pub present: Present,
    /// How the node's clock drifts, in millionths.
    #[serde(default)]
    pub drift_ppm: i32,
    /// The relays on which it listens, by number from 0.
    pub relays: Vec<u32>,
    /// The index servers that it uses, by number from 0.
    pub indexes: Vec<u32>,
    /// After this long a person accepts the friend's terms of a reset; never without.
    #[serde(default)]
    pub accepts_reset_after: Option<Duration>,
    /// The tricks that they play; the honest play none.
    #[serde(default, skip_serializing_if = "NodeCheat::is_honest")]
    pub cheat: NodeCheat,
}

/// Two friends, by their nodes' numbers from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Friendship {
    /// One.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// In each currency that they share.
    pub terms: Vec<Terms>,
}

/// What two friends grant each other in one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The currency's place in the list.
    pub currency: u32,
    /// What `a` lets `b` owe.
    pub a_grants: u128,
    /// What `b` lets `a` owe.
    pub b_grants: u128,
    /// What `a` charges for what comes from `b`.
    pub a_charges: RatePlan,
    /// What `b` charges for what comes from `a`.
    pub b_charges: RatePlan,
}

/// A rate: `floor(x * mul / 2^32) + add`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatePlan {
    /// Parts in 2^32.
    pub mul: u32,
    /// A fixed part.
    pub add: u32,
}

impl From<RatePlan> for Rate {
    fn from(RatePlan { mul, add }: RatePlan) -> Rate {
        Rate { mul, add }
    }
}

/// How a payment is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// The buyer hands the commit to the seller.
    ByHand,
    /// It travels along the route.
    InBand,
}

/// Something that a person does. Nodes by number from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Buys something.
    Pay {
        /// Names the deal; no two are alike.
        deal: u64,
        /// Who pays.
        buyer: u32,
        /// Who is paid.
        seller: u32,
        /// In which currency.
        currency: u32,
        /// What the seller gets.
        amount: u128,
        /// The most that mediators may get.
        max_fee: u128,
        /// How it is committed.
        commit: Commit,
        /// How often the buyer tries in all.
        tries: u32,
        /// After this long without an outcome the buyer withdraws.
        patience: Duration,
    },
    /// Pays the invoice of a deal once more, as somebody does who presses the button twice.
    PayAgain {
        /// Whose deal.
        buyer: u32,
        /// The deal.
        deal: u64,
    },
    /// Changes how the own node is set.
    Configure {
        /// Whose.
        node: u32,
        /// What.
        setting: Setting,
    },
}

/// A change of a node's settings. Friends by their nodes' numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Setting {
    /// What the friend may owe.
    Grant {
        /// The friend.
        friend: u32,
        /// The currency.
        currency: u32,
        /// In its units.
        max_debt: u128,
    },
    /// What is charged for what comes from the friend.
    Charge {
        /// The friend.
        friend: u32,
        /// The currency.
        currency: u32,
        /// The rate.
        rate: RatePlan,
    },
    /// List the currency, take requests in it.
    Open {
        /// The friend.
        friend: u32,
        /// The currency.
        currency: u32,
    },
    /// Take no more requests in it.
    Close {
        /// The friend.
        friend: u32,
        /// The currency.
        currency: u32,
    },
    /// Keep a link to the friend.
    Enable {
        /// The friend.
        friend: u32,
    },
    /// Keep none.
    Disable {
        /// The friend.
        friend: u32,
    },
    /// End the friendship. What is owed is lost; a run in which this happens books it.
    Remove {
        /// The friend.
        friend: u32,
    },
    /// Listen on these relays and on no others.
    Relays {
        /// By number.
        relays: Vec<u32>,
    },
    /// Use these index servers and no others.
    Indexes {
        /// By number.
        indexes: Vec<u32>,
    },
}

/// What a host is in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The relay of this number.
    Relay(u32),
    /// The index server of this number.
    Index(u32),
    /// The node of this number.
    Node(u32),
    /// The person of the node of this number.
    Person(u32),
    /// The stranger of this number.
    Stranger(u32),
    /// The guest of this number.
    Guest(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Relay(n) => write!(f, "relay {n}"),
            Role::Index(n) => write!(f, "index server {n}"),
            Role::Node(n) => write!(f, "node {n}"),
            Role::Person(n) => write!(f, "person {n}"),
            Role::Stranger(n) => write!(f, "stranger {n}"),
            Role::Guest(n) => write!(f, "guest {n}"),
        }
    }
}

impl Case {
    /// The host of a role.
    pub fn host(&self, role: Role) -> HostId {
        let (relays, indexes, nodes) = (self.relays.len() as u32, self.indexes.len() as u32, self.nodes.len() as u32);
        HostId(match role {
            Role::Relay(n) => n,
            Role::Index(n) => relays + n,
            Role::Node(n) => relays + indexes + n,
            Role::Person(n) => relays + indexes + nodes + n,
            Role::Stranger(n) => relays + indexes + 2 * nodes + n,
            Role::Guest(n) => relays + indexes + 2 * nodes + self.strangers.len() as u32 + n,
        })
    }

    /// What a host is; `None` beyond the last.
    pub fn role(&self, host: HostId) -> Option<Role> {
        let (relays, indexes, nodes) = (self.relays.len() as u32, self.indexes.len() as u32, self.nodes.len() as u32);
        let number = host.0;
        let (first_node, first_person) = (relays + indexes, relays + indexes + nodes);
        let (first_stranger, strangers) = (first_person + nodes, self.strangers.len() as u32);
        match number {
            _ if number < relays => Some(Role::Relay(number)),
            _ if number < first_node => Some(Role::Index(number - relays)),
            _ if number < first_person => Some(Role::Node(number - first_node)),
            _ if number < first_stranger => Some(Role::Person(number - first_person)),
            _ if number < first_stranger + strangers => Some(Role::Stranger(number - first_stranger)),
            _ if number < self.hosts() => Some(Role::Guest(number - first_stranger - strangers)),
            _ => None,
        }
    }

    /// How many hosts there are, those that were taken out included.
    pub fn hosts(&self) -> u32 {
        let servers = self.relays.len() + self.indexes.len();
        (servers + 2 * self.nodes.len() + self.strangers.len() + self.guests.len()) as u32
    }

    /// Whether a host plays no tricks.
    pub fn is_honest(&self, role: Role) -> bool {
        match role {
            Role::Relay(n) => self.relays.get(n as usize).is_none_or(|relay| relay.cheat.is_honest()),
            Role::Index(n) => self.indexes.get(n as usize).is_none_or(|index| index.cheat.is_honest()),
            Role::Node(n) | Role::Person(n) => self.nodes.get(n as usize).is_none_or(|node| node.cheat.is_honest()),
            Role::Stranger(_) => false,
            Role::Guest(_) => true,
        }
    }

    /// Whether anybody who takes part plays tricks.
    pub fn has_cheaters(&self) -> bool {
        let mut roles = (0..self.hosts()).filter_map(|host| self.role(HostId(host)));
        roles.any(|role| self.is_present(role) && !self.is_honest(role))
    }

    /// Whether the host of a role takes part.
    pub fn is_present(&self, role: Role) -> bool {
        let present = match role {
            Role::Relay(n) => self.relays.get(n as usize).map(|relay| relay.present),
            Role::Index(n) => self.indexes.get(n as usize).map(|index| index.present),
            Role::Node(n) | Role::Person(n) => self.nodes.get(n as usize).map(|node| node.present),
            Role::Stranger(n) => self.strangers.get(n as usize).map(|stranger| stranger.present),
            Role::Guest(n) => self
                .guests
                .get(n as usize)
                .filter(|guest| self.is_present(Role::Node(guest.node)))
                .map(|guest| guest.present),
        };
        present == Some(Present::Yes)
    }
}
