//! What people tell their nodes: to set a card up, to change how it is set, to buy.

use offset_protocol::app::{Command, CommitMode, IndexAddress, Name, Refusal};
use offset_protocol::codec::List;
use offset_protocol::money::Currency;
use offset_protocol::relay::RelayAddress;

use crate::case::{Case, Commit, Operation, Present, RatePlan, Role, Setting};
use crate::host::HostId;
use crate::people::{Chore, DealId, Note, Order, Wanted};
use crate::servers::{INDEX_CLIENT_PORT, RELAY_PORT};
use crate::world::World;

/// What each node's person does at first, in order.
pub(super) fn set_up(case: &Case, world: &World) -> Vec<Vec<Chore>> {
    let mut lists: Vec<Vec<Chore>> = Vec::new();
    for plan in &case.nodes {
        let mut list: Vec<Chore> = plan.relays.iter().map(|&relay| add_relay(case, world, relay)).collect();
        list.extend(plan.indexes.iter().map(|&index| add_index(case, world, index)));
        lists.push(list);
    }
    for friendship in &case.friendships {
        let ends = [(friendship.a, friendship.b), (friendship.b, friendship.a)];
        if ends.iter().any(|&(node, _)| case.nodes.get(node as usize).is_none_or(|node| node.present == Present::No)) {
            continue;
        }
        for (side, (us, friend)) in ends.into_iter().enumerate() {
            let list = &mut lists[us as usize];
            list.extend(befriend(case, world, friend));
            for terms in &friendship.terms {
                let Some(currency) = currency(case, terms.currency) else { continue };
                let (grants, charges) = [(terms.a_grants, terms.a_charges), (terms.b_grants, terms.b_charges)][side];
                list.extend(share(case, friend, currency, grants, charges));
            }
        }
    }
    lists
}

/// An order, for the buyer.
pub(super) fn order(case: &Case, operation: &Operation) -> Option<Note> {
    let Operation::Pay { deal, seller, currency: place, amount, max_fee, commit, tries, patience, .. } = operation
    else {
        return None;
    };
    Some(Note::Order(Order {
        deal: DealId(*deal),
        seller: case.host(Role::Person(*seller)),
        currency: currency(case, *place)?,
        amount: *amount,
        max_fee: *max_fee,
        mode: match commit {
            Commit::ByHand => CommitMode::ByHand,
            Commit::InBand => CommitMode::InBand,
        },
        tries: *tries,
        patience: *patience,
        routes: None,
    }))
}

/// A change of settings, for the node's person. Whatever the node answers is right: settings may cross each other.
pub(super) fn change(case: &Case, world: &World, node: u32, setting: &Setting) -> Option<Note> {
    let plan = case.nodes.get(node as usize)?;
    let commands = match setting {
        Setting::Grant { friend, currency: place, max_debt } => {
            vec![Command::SetMaxDebt {
                name: name_of(case, *friend),
                currency: currency(case, *place)?,
                max_debt: *max_debt,
            }]
        }
        Setting::Charge { friend, currency: place, rate } => {
            vec![Command::SetRate {
                name: name_of(case, *friend),
                currency: currency(case, *place)?,
                rate: (*rate).into(),
            }]
        }
        Setting::Open { friend, currency: place } => {
            vec![Command::OpenCurrency { name: name_of(case, *friend), currency: currency(case, *place)? }]
        }
        Setting::Close { friend, currency: place } => {
            vec![Command::CloseCurrency { name: name_of(case, *friend), currency: currency(case, *place)? }]
        }
        Setting::Enable { friend } => vec![Command::EnableFriend { name: name_of(case, *friend) }],
        Setting::Disable { friend } => vec![Command::DisableFriend { name: name_of(case, *friend) }],
        Setting::Remove { friend } => vec![Command::RemoveFriend { name: name_of(case, *friend) }],
        Setting::Relays { relays } => {
            let wanted = relays.iter().map(|&relay| add_relay(case, world, relay).command);
            let others = (0..case.relays.len() as u32).filter(|relay| !relays.contains(relay));
            let gone = others.map(|relay| Command::RemoveRelay { name: name(case.host(Role::Relay(relay))) });
            wanted.chain(gone).collect()
        }
        Setting::Indexes { indexes } => {
            let wanted = indexes.iter().map(|&index| add_index(case, world, index).command);
            let others = (0..case.indexes.len() as u32).filter(|index| !indexes.contains(index));
            let gone = others.map(|index| Command::RemoveIndex { name: name(case.host(Role::Index(index))) });
            wanted.chain(gone).collect()
        }
    };
    let chores = commands.into_iter().map(|command| Chore { command, wanted: Wanted::Anything }).collect();
    (plan.present == Present::Yes).then_some(Note::Chores(chores))
}

/// Where these friends of a node listen, told by hand.
pub(super) fn friends_listen_at(case: &Case, world: &World, friends: &[u32], relays: &[u32]) -> Note {
    let listen = |friend: u32| Command::SetFriendRelays {
        name: name_of(case, friend),
        relays: List::truncated(relays.iter().map(|&relay| relay_address(case, world, relay))),
    };
    let chores = friends.iter().map(|&friend| Chore { command: listen(friend), wanted: Wanted::Anything });
    Note::Chores(chores.collect())
}

fn currency(case: &Case, place: u32) -> Option<Currency> {
    case.currencies.get(place as usize).map(|name| name.0)
}

/// Names longer than a name may be do not occur here.
fn name(host: HostId) -> Name {
    Name::new(&host.to_string()).unwrap_or_default()
}

fn name_of(case: &Case, node: u32) -> Name {
    name(case.host(Role::Node(node)))
}

fn relay_address(case: &Case, world: &World, relay: u32) -> RelayAddress {
    let host = case.host(Role::Relay(relay));
    RelayAddress { public_key: world.key_of(host), address: World::address_of(host, RELAY_PORT) }
}

fn add_relay(case: &Case, world: &World, relay: u32) -> Chore {
    let (relay, name) = (relay_address(case, world, relay), name(case.host(Role::Relay(relay))));
    Chore { command: Command::AddRelay { relay, name }, wanted: Wanted::DoneOr(Refusal::KeyTaken(Name::default())) }
}

fn add_index(case: &Case, world: &World, index: u32) -> Chore {
    let host = case.host(Role::Index(index));
    let server = IndexAddress { public_key: world.key_of(host), address: World::address_of(host, INDEX_CLIENT_PORT) };
    let wanted = Wanted::DoneOr(Refusal::KeyTaken(Name::default()));
    Chore { command: Command::AddIndex { server, name: name(host) }, wanted }
}

fn befriend(case: &Case, world: &World, friend: u32) -> Vec<Chore> {
    let name = name_of(case, friend);
    let homes = case.nodes.get(friend as usize).map(|plan| plan.relays.as_slice()).unwrap_or_default();
    let addresses: Vec<_> = homes.iter().map(|&relay| relay_address(case, world, relay)).collect();
    let relays = List::truncated(addresses);
    let public_key = world.key_of(case.host(Role::Node(friend)));
    vec![
        Chore {
            command: Command::AddFriend { public_key, relays, name: name.clone() },
            wanted: Wanted::DoneOr(Refusal::KeyTaken(Name::default())),
        },
        Chore { command: Command::EnableFriend { name }, wanted: Wanted::Done },
    ]
}

fn share(case: &Case, friend: u32, currency: Currency, grants: u128, charges: RatePlan) -> Vec<Chore> {
    let name = name_of(case, friend);
    let chore = |command| Chore { command, wanted: Wanted::Done };
    vec![
        chore(Command::OpenCurrency { name: name.clone(), currency }),
        chore(Command::SetMaxDebt { name: name.clone(), currency, max_debt: grants }),
        chore(Command::SetRate { name, currency, rate: charges.into() }),
    ]
}
