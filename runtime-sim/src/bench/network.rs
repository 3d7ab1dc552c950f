//! Networks of funders to be measured, and tested: a graph, terms, payments at a steady rate.

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::case::{
    Case, Commit, CurrencyName, FORMAT, Fidelity, Friendship, NodePlan, Operation, Rare, RatePlan, Terms, Timed,
};
use crate::dice::Dice;
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::{Conditions, StreamCuts};
use crate::signatures::Signatures;
use crate::topology::{Graph, Parts, Shape, TopologyError};

/// What every friend may owe. Ample: limits are felt in scenarios, not in measurements.
const MAX_DEBT: u128 = 1_000_000_000;
/// The most that is paid at once.
const MAX_PAYMENT: u64 = 100_000;
/// Payments begin after this.
const FIRST_PAYMENT: Duration = Duration::from_secs(5);

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The graph of friends.
    pub shape: Shape,
    /// Nodes.
    pub nodes: u32,
    /// Payments between anybody and anybody, half of them committed by hand.
    pub payments: u64,
    /// Payments in a simulated second.
    pub per_second: u64,
    /// From this everything else is drawn.
    pub seed: u64,
}

impl Network {
    /// The network as a case, with nothing that goes wrong.
    ///
    /// # Errors
    /// [`TopologyError`] if there is no such graph.
    pub fn case(&self) -> Result<Case, TopologyError> {
        let seed = Seed::from_number(self.seed);
        let mut dice = Dice::new(&seed, "network");
        let graph = Graph::make(self.shape, self.nodes, Parts::Joined, &mut dice)?;
        let friendships = graph.edges().iter().map(|&(a, b)| friendship(a, b, &mut dice)).collect();
        let gap = 1_000_000 / self.per_second.max(1);
        let first = FIRST_PAYMENT.as_micros();
        let last = first + gap * self.payments;
        Ok(Case {
            format: FORMAT,
            scenario: "network".to_owned(),
            seed: self.seed,
            fidelity: Fidelity::Funds,
            signatures: Signatures::Cheap,
            keys: Keys::Real,
            rare: Rare::Off,
            conditions: conditions(),
            note: Latency::Uniform { low: Duration::from_millis(100), high: Duration::from_secs(2) },
            currencies: "CRED".parse().map(CurrencyName).into_iter().collect(),
            relays: Vec::new(),
            indexes: vec![crate::case::ServerPlan::default()],
            nodes: vec![NodePlan::default(); self.nodes as usize],
            strangers: Vec::new(),
            guests: Vec::new(),
            friendships,
            operations: (0..self.payments).map(|deal| self.payment(deal, first + gap * deal, &mut dice)).collect(),
            faults: Vec::new(),
            heal_at: Instant::from_micros(last) + Duration::from_secs(1),
        })
    }

    fn payment(&self, deal: u64, at: u64, dice: &mut Dice) -> Timed<Operation> {
        let buyer = dice.below(u64::from(self.nodes)) as u32;
        let other = dice.below(u64::from(self.nodes.saturating_sub(1)).max(1)) as u32;
        let seller = if other >= buyer { (other + 1).min(self.nodes.saturating_sub(1)) } else { other };
        let what = Operation::Pay {
            deal,
            buyer,
            seller,
            currency: 0,
            amount: dice.between(1, MAX_PAYMENT).into(),
            max_fee: MAX_PAYMENT.into(),
            commit: if dice.chance(500) { Commit::InBand } else { Commit::ByHand },
            tries: 2,
            patience: Duration::from_secs(60),
        };
        Timed { at: Instant::from_micros(at), what }
    }
}

fn friendship(a: u32, b: u32, dice: &mut Dice) -> Friendship {
    let mut rate = || RatePlan { mul: dice.below(1 << 22) as u32, add: dice.below(10) as u32 };
    let (a_charges, b_charges) = (rate(), rate());
    let terms = Terms { currency: 0, a_grants: MAX_DEBT, b_grants: MAX_DEBT, a_charges, b_charges };
    Friendship { a, b, terms: vec![terms] }
}

/// Ordinary links: tens of milliseconds, now and then more.
fn conditions() -> Conditions {
    Conditions {
        latency: Latency::LogNormal { median: Duration::from_millis(40), sigma_milli: 500 },
        bandwidth: 0,
        send_buffer: 1 << 16,
        receive_buffer: 1 << 16,
        cuts: StreamCuts::Whole,
    }
}
