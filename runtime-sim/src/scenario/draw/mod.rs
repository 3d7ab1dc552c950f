//! A scenario and a seed become a case. Pure: everything comes from dice that are named after what they decide, so that a
//! new field does not disturb the others.

mod cheaters;
mod events;
mod faults;
mod network;
mod orders;
mod payments;
mod people;
mod settings;

use offset_protocol::machine::{Duration, Instant, Seed};

use super::field::{Field, NEVER, Span};
use super::{Scenario, ScenarioError, fields};
use crate::case::{Case, CurrencyName, FORMAT, Fidelity, Rare, Role};
use crate::cheats::{self, Shares};
use crate::dice::Dice;
use crate::host::HostId;
use crate::keys::Keys;
use crate::signatures::Signatures;
use crate::topology::Graph;

/// Real signatures, and real keys of channels, in so many of a thousand runs, where they are mixed. Chosen freely: they cost much and change little.
const REAL_PER_MILLE: u32 = 50;

/// One run of a scenario.
///
/// # Errors
/// The topology cannot be made, or a name in the scenario is nobody's.
pub fn draw(scenario: &Scenario, seed: u64) -> Result<Case, ScenarioError> {
    let drawing = Drawing { scenario, seed: Seed::from_number(seed).fork("scenario") };
    let graph = drawing.graph()?;
    let mut case = Case {
        format: FORMAT,
        scenario: scenario.name.clone(),
        seed,
        fidelity: if drawing.word(&fields::FIDELITY) == "funds" { Fidelity::Funds } else { Fidelity::Full },
        signatures: drawing.signatures(),
        keys: drawing.keys(),
        rare: if drawing.word(&fields::RARE) == "drawn" { Rare::Drawn } else { Rare::Off },
        conditions: drawing.conditions(),
        note: drawing.note(),
        currencies: drawing.currencies()?,
        relays: drawing.servers("relays", drawing.once(&fields::RELAYS)),
        indexes: drawing.servers("indexes", drawing.once(&fields::INDEXES)),
        nodes: Vec::new(),
        strangers: Vec::new(),
        guests: Vec::new(),
        friendships: Vec::new(),
        operations: Vec::new(),
        faults: Vec::new(),
        heal_at: Instant::ZERO + drawing.time(&fields::SAFETY),
    };
    case.nodes = drawing.nodes(graph.nodes(), case.relays.len(), case.indexes.len());
    case.friendships = drawing.friendships(&graph, case.currencies.len());
    drawing.add_payments(&mut case, &graph)?;
    drawing.add_orders(&mut case, &graph)?;
    drawing.add_changes(&mut case);
    if case.fidelity == Fidelity::Full {
        drawing.add_second_payments(&mut case);
    }
    case.operations.sort_by_key(|timed| timed.at);
    drawing.add_faults(&mut case);
    drawing.add_phones(&mut case);
    drawing.add_events(&mut case, &graph)?;
    case.faults.sort_by_key(|timed| timed.at);
    let shares =
        Shares { from: drawing.time(&fields::CHEATERS_FROM), ..Shares::of(drawing.per_mille(&fields::CHEATERS)) };
    if case.fidelity == Fidelity::Full {
        cheats::draw(&mut drawing.dice("cheats"), &mut case, &shares);
        // Behind the strangers, whose number stands only now.
        drawing.add_guests(&mut case);
    }
    drawing.add_cheaters(&mut case, &graph)?;
    Ok(case)
}

/// The graph of one run of a scenario, without the rest of it.
///
/// # Errors
/// It cannot be made.
pub fn graph_of(scenario: &Scenario, seed: u64) -> Result<Graph, ScenarioError> {
    Drawing { scenario, seed: Seed::from_number(seed).fork("scenario") }.graph()
}

struct Drawing<'s> {
    scenario: &'s Scenario,
    seed: Seed,
}

/// A field, ready to be drawn again and again.
struct Source {
    span: Span,
    dice: Dice,
}

impl Source {
    fn next(&mut self) -> u64 {
        self.dice.between(self.span.low, self.span.high)
    }

    fn time(&mut self) -> Duration {
        Duration::from_micros(self.next())
    }
}

impl Drawing<'_> {
    /// Dice for a decision that no field holds.
    fn dice(&self, what: &str) -> Dice {
        Dice::new(&self.seed, what)
    }

    fn source(&self, field: &Field) -> Source {
        let spans = self.scenario.spans(field);
        Source {
            span: self.one_of(&field.name, &spans).unwrap_or(Span { low: 0, high: 0 }),
            dice: self.dice(&field.name),
        }
    }

    /// The entry of a list that this run has.
    fn one_of<T: Clone>(&self, name: &str, entries: &[T]) -> Option<T> {
        self.dice(&format!("{name}: which")).pick(entries).cloned()
    }

    fn once(&self, field: &Field) -> u64 {
        self.source(field).next()
    }

    fn per_mille(&self, field: &Field) -> u32 {
        u32::try_from(self.once(field)).unwrap_or(u32::MAX)
    }

    fn time(&self, field: &Field) -> Duration {
        Duration::from_micros(self.once(field))
    }

    fn word(&self, field: &Field) -> String {
        self.one_of(&field.name, &self.scenario.words(field)).unwrap_or_default()
    }

    fn signatures(&self) -> Signatures {
        match self.word(&fields::SIGNATURES).as_str() {
            "real" => Signatures::Real,
            "mixed" if self.dice("signatures").chance(REAL_PER_MILLE) => Signatures::Real,
            _ => Signatures::Cheap,
        }
    }

    fn keys(&self) -> Keys {
        match self.word(&fields::KEYS).as_str() {
            "real" => Keys::Real,
            "mixed" if self.dice("keys").chance(REAL_PER_MILLE) => Keys::Real,
            _ => Keys::Cheap,
        }
    }

    fn currencies(&self) -> Result<Vec<CurrencyName>, ScenarioError> {
        let wrong = |what| ScenarioError::Value { field: fields::CURRENCIES.name.to_string(), what };
        let names: Result<Vec<_>, _> =
            self.scenario.words(&fields::CURRENCIES).into_iter().map(CurrencyName::try_from).collect();
        let names = names.map_err(wrong)?;
        if names.is_empty() { Err(wrong("there must be one at least".to_owned())) } else { Ok(names) }
    }
}

/// A moment in the time between two, of which there is none if the end comes first.
fn moment(dice: &mut Dice, from: Instant, to: Instant) -> Instant {
    from + dice.duration(Duration::ZERO, to.since(from))
}

fn node_host(case: &Case, node: u32) -> HostId {
    case.host(Role::Node(node))
}

/// Nodes by how many friends they have, most first.
fn hubs(graph: &Graph) -> Vec<u32> {
    let degrees = graph.degrees();
    let mut nodes: Vec<u32> = (0..graph.nodes()).collect();
    nodes.sort_by_key(|node| (std::cmp::Reverse(degrees[*node as usize]), *node));
    nodes
}

/// A time that may be never.
fn unless_never(us: u64) -> Option<Duration> {
    (us != NEVER).then(|| Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::case::Operation;
    use crate::faults::{FAMILIES, Fault};

    fn scenario(text: &str) -> Scenario {
        Scenario::parse("test", text, Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").as_path(), &[]).unwrap()
    }

    fn case(text: &str, seed: u64) -> Case {
        draw(&scenario(text), seed).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_case_and_another_seed_another() {
        let swarm = Scenario::load("swarm", &[]).unwrap();
        for seed in 0..20 {
            assert_eq!(draw(&swarm, seed).unwrap(), draw(&swarm, seed).unwrap());
            assert_ne!(draw(&swarm, seed).unwrap().nodes, draw(&swarm, seed + 100).unwrap().nodes);
        }
    }

    #[test]
    fn one_field_does_not_disturb_what_others_draw() {
        let plain = case("[faults]\nfamilies = [\"reset\"]\noff_per_mille = 0\n", 7);
        let changed = case(
            "[faults]\nfamilies = [\"reset\", \"cut\"]\noff_per_mille = 0\n[payments]\ntries = 9\n[network]\nbandwidth = \"1..5\"\n",
            7,
        );
        assert_eq!((&plain.nodes, &plain.friendships), (&changed.nodes, &changed.friendships));
        let resets = |case: &Case| case.faults.iter().filter(|timed| matches!(timed.what, Fault::Reset { .. })).count();
        assert_eq!(resets(&plain), resets(&changed));
        let who = |case: &Case| {
            let all = case.operations.iter().map(|timed| match &timed.what {
                Operation::Pay { buyer, seller, amount, .. } => (timed.at, *buyer, *seller, *amount),
                Operation::PayAgain { .. } | Operation::Configure { .. } => unreachable!("nothing is changed"),
            });
            all.collect::<Vec<_>>()
        };
        assert_eq!(who(&plain), who(&changed));
        assert!(changed.faults.len() > plain.faults.len());
    }

    #[test]
    fn what_is_drawn_is_sound() {
        for text in [
            "[topology]\nkind = \"star\"\n[payments]\nworkload = \"hub-and-spoke\"\nback_per_mille = 300\n",
            "[payments]\nworkload = \"circular\"\namounts = \"log-normal\"\n[money]\ncurrencies = [\"A\", \"B\"]\nshared = \"1..2\"\n",
            "[payments]\nworkload = \"fixed-route\"\n[changes]\ncount = 40\n[people]\nphones_per_mille = 500\n",
            "[payments]\nworkload = \"market-day\"\n[faults]\nfamilies = \"all\"\n[servers]\nrelays = 5\nhomes = 3\n",
            "[topology]\nkind = \"file\"\nfile = \"valley.csv\"\n[money]\nlimits = \"file\"\n",
            "[topology]\nnodes = 1\n",
            "[phases]\nsafety = \"1s\"\n[faults]\nfamilies = \"all\"\n",
        ] {
            for seed in 0..10 {
                let case = case(text, seed);
                assert!(case.operations.windows(2).all(|pair| pair[0].at <= pair[1].at));
                assert!(case.faults.windows(2).all(|pair| pair[0].at <= pair[1].at));
                assert!(case.faults.iter().all(|fault| fault.at <= case.heal_at), "{text}");
                let nodes = case.nodes.len() as u32;
                assert!(
                    case.friendships.iter().all(|pair| pair.a < pair.b && pair.b < nodes && !pair.terms.is_empty())
                );
                for node in &case.nodes {
                    assert!(!node.relays.is_empty() && !node.indexes.is_empty());
                    assert!(node.relays.iter().all(|relay| (*relay as usize) < case.relays.len()));
                }
                for timed in &case.operations {
                    if let Operation::Pay { buyer, seller, currency, amount, .. } = &timed.what {
                        assert!(buyer != seller && *buyer < nodes && *seller < nodes && *amount > 0);
                        assert!((*currency as usize) < case.currencies.len());
                    }
                }
                if nodes > 1 {
                    let pays = case.operations.iter().filter(|timed| matches!(timed.what, Operation::Pay { .. }));
                    assert_eq!(pays.count(), 50, "{text}");
                }
            }
        }
    }

    #[test]
    fn limits_come_from_the_file_where_it_says() {
        let case = case("[topology]\nkind = \"file\"\nfile = \"valley.csv\"\n[money]\nlimits = \"file\"\n", 1);
        assert_eq!(case.nodes.len(), 24);
        assert!(case.friendships.iter().all(|pair| pair.terms[0].a_grants >= 250 && pair.terms[0].a_grants <= 2_500));
    }

    #[test]
    fn every_family_of_faults_can_be_drawn() {
        let all = scenario("[faults]\nfamilies = \"all\"\noff_per_mille = 0\n[phases]\nsafety = \"400s\"\n");
        let cases: Vec<Case> = (0..20).map(|seed| draw(&all, seed).unwrap()).collect();
        let seen: std::collections::BTreeSet<_> =
            cases.iter().flat_map(|case| case.faults.iter().map(|timed| timed.what.family())).collect();
        // Cuts that flap and swizzle are counted as cuts.
        assert_eq!(seen.len(), FAMILIES.len() - 2, "{seen:?}");
        // Each cut is healed once, whatever family it is of.
        for case in &cases {
            let (mut begun, mut ended) = (Vec::new(), Vec::new());
            for timed in &case.faults {
                match &timed.what {
                    Fault::Cut { name, .. } => begun.push(*name),
                    Fault::Heal { name } => ended.push(*name),
                    _ => {}
                }
            }
            begun.sort_unstable();
            ended.sort_unstable();
            assert_eq!(begun, ended);
            begun.dedup();
            assert_eq!(begun.len(), ended.len());
        }
    }

    #[test]
    fn events_strike_whom_they_name() {
        let text = "[topology]\nkind = \"star\"\nnodes = 9\n[servers]\nindexes = 3\n\
            [[event]]\nat = \"10s\"\nwhat = \"leave\"\nwho = \"hub 0\"\n\
            [[event]]\nat = \"11s\"\nwhat = \"split\"\nwho = \"all indexes\"\n\
            [[event]]\nat = \"12s\"\nwhat = \"restore-backup\"\nwho = \"any node\"\nlasts = \"5s\"\n\
            [[event]]\nat = \"13s\"\nwhat = \"stop\"\nwho = \"500 per mille of nodes\"\n";
        let case = case(text, 3);
        let hub = case.host(Role::Node(0));
        assert!(case.faults.iter().any(|timed| timed.what == Fault::Leave { host: hub }));
        let cuts = case.faults.iter().filter(|timed| matches!(timed.what, Fault::Cut { .. })).count();
        assert_eq!(cuts, 3, "three pairs of index servers");
        let at = |wanted: fn(&Fault) -> bool| {
            case.faults.iter().find(|timed| wanted(&timed.what)).map(|timed| timed.at.as_micros())
        };
        assert_eq!(at(|fault| matches!(fault, Fault::Copy { .. })), Some(12_000_000));
        assert_eq!(at(|fault| matches!(fault, Fault::PutBack { .. })), Some(17_000_000));
        let wrong = draw(&scenario("[[event]]\nwho = \"relay 7\"\n"), 1).unwrap_err().to_string();
        assert_eq!(wrong, "event: \"relay 7\": there are 2 relays only");
    }

    #[test]
    fn whoever_cheats_has_tricks() {
        let wrong = draw(&scenario("[[cheater]]\nwho = \"node 1\"\n"), 1).unwrap_err().to_string();
        assert!(wrong.contains("number 1 plays no tricks"), "{wrong}");
    }
}
