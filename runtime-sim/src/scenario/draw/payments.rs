//! Who pays whom, when, and how much.

use std::collections::BTreeMap;

use offset_protocol::machine::{Duration, Instant};

use super::{Drawing, Source, hubs, moment};
use crate::case::{Case, Commit, Operation, Timed};
use crate::dice::Dice;
use crate::latency::Latency;
use crate::scenario::{ScenarioError, fields};
use crate::topology::Graph;

/// A pair that pays, for each payment anew. Never the same twice.
type Pairs = Box<dyn FnMut(&mut Dice) -> (u32, u32)>;

impl Drawing<'_> {
    pub(super) fn add_payments(&self, case: &mut Case, graph: &Graph) -> Result<(), ScenarioError> {
        let workload = self.word(&fields::WORKLOAD);
        if workload == "trace" {
            return self.add_trace(case, graph);
        }
        let nodes = graph.nodes();
        if nodes < 2 {
            return Ok(());
        }
        let mut pairs = self.pairs(&workload, graph);
        let (from, to) = self.window(case);
        let (mut when, mut who) = (self.dice("payments: when"), self.dice("payments: who"));
        let mut amounts = self.amounts();
        let mut manner = Manner::new(self);
        for deal in 0..self.once(&fields::PAYMENTS) {
            let at = match workload.as_str() {
                "market-day" => noon(&mut when, from, to),
                _ => moment(&mut when, from, to),
            };
            let (buyer, seller) = pairs(&mut who);
            let amount = amounts();
            let what = manner.pay(case, deal, (buyer, seller), amount);
            case.operations.push(Timed { at, what });
        }
        Ok(())
    }

    /// The time in which payments are ordered.
    fn window(&self, case: &Case) -> (Instant, Instant) {
        let from = (Instant::ZERO + self.time(&fields::FIRST)).min(case.heal_at);
        let whole = case.heal_at.since(from).as_micros();
        let quiet = self.time(&fields::QUIET).as_micros();
        (from, from + Duration::from_micros(whole.saturating_sub(quiet)))
    }

    fn pairs(&self, workload: &str, graph: &Graph) -> Pairs {
        let nodes = graph.nodes();
        let anybody = move |dice: &mut Dice| dice.below(nodes.into()) as u32;
        let other = move |dice: &mut Dice, than: u32| (than + dice.between(1, u64::from(nodes) - 1) as u32) % nodes;
        match workload {
            "fixed-route" => {
                let mut dice = self.dice("payments: routes");
                let routes: Vec<(u32, u32)> = (0..self.once(&fields::ROUTES))
                    .map(|_| {
                        let buyer = anybody(&mut dice);
                        (buyer, other(&mut dice, buyer))
                    })
                    .collect();
                Box::new(move |dice| dice.pick(&routes).copied().unwrap_or((0, 1)))
            }
            "circular" => {
                let mut circle: Vec<u32> = (0..nodes).collect();
                shuffle(&mut circle, &mut self.dice("payments: circle"));
                Box::new(move |dice| {
                    let place = dice.below(circle.len() as u64) as usize;
                    (circle[place], circle[(place + 1) % circle.len()])
                })
            }
            "hub-and-spoke" => self.to_sellers(hubs(graph)),
            "market-day" => {
                let mut stalls: Vec<u32> = (0..nodes).collect();
                shuffle(&mut stalls, &mut self.dice("payments: stalls"));
                self.to_sellers(stalls)
            }
            _ => Box::new(move |dice| {
                let buyer = anybody(dice);
                (buyer, other(dice, buyer))
            }),
        }
    }

    /// The others pay the first of these, who pay the others now and then.
    fn to_sellers(&self, mut all: Vec<u32>) -> Pairs {
        let sellers = self.once(&fields::SELLERS).clamp(1, all.len() as u64 - 1) as usize;
        let back = self.per_mille(&fields::BACK);
        let buyers = all.split_off(sellers);
        Box::new(move |dice| {
            let (buyer, seller) =
                (buyers[dice.below(buyers.len() as u64) as usize], all[dice.below(all.len() as u64) as usize]);
            if dice.chance(back) { (seller, buyer) } else { (buyer, seller) }
        })
    }

    fn amounts(&self) -> impl FnMut() -> u128 {
        let mut given = self.source(&fields::AMOUNT);
        let model = Latency::LogNormal {
            // A distribution of whole numbers; that its unit is called a microsecond elsewhere does no harm.
            median: self.time(&fields::AMOUNT_MEDIAN),
            sigma_milli: self.per_mille(&fields::AMOUNT_SPREAD),
        };
        let (mut dice, log_normal) = (self.dice("payments: amounts"), self.word(&fields::AMOUNTS) == "log-normal");
        move || {
            let amount = if log_normal { model.draw(&mut dice).as_micros() } else { given.next() };
            u128::from(amount.max(1))
        }
    }

    fn add_trace(&self, case: &mut Case, graph: &Graph) -> Result<(), ScenarioError> {
        let wrong = |what| ScenarioError::Value { field: fields::TRACE.name.to_string(), what };
        let named: BTreeMap<&str, u32> =
            (0..graph.nodes()).filter_map(|node| graph.name(node).map(|name| (name, node))).collect();
        let find = |name: &str| {
            let by_number = || name.parse().ok().filter(|node: &u32| *node < graph.nodes());
            let found = named.get(name).copied().or_else(by_number);
            found.ok_or_else(|| wrong(format!("{name:?} is no node's name or number")))
        };
        let mut manner = Manner::new(self);
        for (deal, order) in (0..).zip(&self.scenario.orders) {
            let (buyer, seller) = (find(&order.buyer)?, find(&order.seller)?);
            if buyer == seller {
                return Err(wrong(format!("{:?} pays itself", order.buyer)));
            }
            let mut what = manner.pay(case, deal, (buyer, seller), order.amount.max(1));
            if let (Operation::Pay { currency, .. }, Some(name)) = (&mut what, &order.currency) {
                let place = case.currencies.iter().position(|currency| String::from(*currency) == *name);
                *currency = place.ok_or_else(|| wrong(format!("there is no currency {name:?}")))? as u32;
            }
            let at = Instant::from_micros(order.at_us);
            if at < case.heal_at {
                case.operations.push(Timed { at, what });
            }
        }
        Ok(())
    }
}

/// How people go about their payments.
struct Manner {
    currency: Dice,
    commit: Dice,
    in_band: u32,
    max_fee: Source,
    tries: Source,
    patience: Source,
    walkers: (u32, Dice),
    walk_after: Source,
}

impl Manner {
    fn new(drawing: &Drawing<'_>) -> Self {
        Manner {
            currency: drawing.dice("payments: currency"),
            commit: drawing.dice("payments: commit"),
            in_band: drawing.per_mille(&fields::IN_BAND),
            max_fee: drawing.source(&fields::MAX_FEE),
            tries: drawing.source(&fields::TRIES),
            patience: drawing.source(&fields::PATIENCE),
            walkers: (drawing.per_mille(&fields::WALKERS), drawing.dice("payments: who walks away")),
            walk_after: drawing.source(&fields::WALK_AFTER),
        }
    }

    fn pay(&mut self, case: &Case, deal: u64, (buyer, seller): (u32, u32), amount: u128) -> Operation {
        let (tries, patience) = (self.tries.next() as u32, self.patience.time());
        let walks = self.walkers.1.chance(self.walkers.0);
        Operation::Pay {
            deal,
            buyer,
            seller,
            currency: self.currency.below(case.currencies.len() as u64) as u32,
            amount,
            max_fee: self.max_fee.next().into(),
            commit: if self.commit.chance(self.in_band) { Commit::InBand } else { Commit::ByHand },
            // Who walks away does not come back.
            tries: if walks { 1 } else { tries },
            patience: if walks { self.walk_after.time() } else { patience },
        }
    }
}

/// Most in the middle of the time, none at its ends.
fn noon(dice: &mut Dice, from: Instant, to: Instant) -> Instant {
    let half = Duration::from_micros(to.since(from).as_micros() / 2);
    from + dice.duration(Duration::ZERO, half) + dice.duration(Duration::ZERO, half)
}

fn shuffle(items: &mut [u32], dice: &mut Dice) {
    for place in (1..items.len()).rev() {
        items.swap(place, dice.below(place as u64 + 1) as usize);
    }
}
