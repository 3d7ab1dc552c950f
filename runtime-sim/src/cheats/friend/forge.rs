//! What a rogue says: batches that are right but for one thing, terms and resets that nobody agreed on, floods.

use offset_protocol::bytes::{
    Hash, HashedLock, InvoiceId, Nonce, PlainLock, PublicKey, RequestId, ResetToken, Signature,
};
use offset_protocol::codec::{List, encode};
use offset_protocol::friend::{Batch, Body, CurrencyBalance, CurrencyOperations, FriendMessage, Operation, ResetTerms};
use offset_protocol::limits::{MAX_AMOUNT, MAX_BATCH_OPS, MAX_CURRENCIES, MAX_RELAYS, MAX_ROUTE_LEN};
use offset_protocol::money::Currency;
use offset_protocol::net::Address;
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Route, Withdraw};
use offset_protocol::relay::RelayAddress;
use offset_protocol::{wire_enum, wire_struct};

use super::{Cheater, Friend, FriendTrick, Mode};
use crate::cheats::bits::{bytes, noise};
use crate::cheats::shadow::Open;
use crate::dice::Dice;

/// What is played where the cheater's own node says where it stands.
pub(super) const RESUME_TRICKS: [FriendTrick; 5] = [
    FriendTrick::ResumeAhead,
    FriendTrick::ResumeOldEpoch,
    FriendTrick::ResumeForgetful,
    FriendTrick::ResumeTwice,
    FriendTrick::BatchBeforeResume,
];
/// What no honest friend grants.
const MUCH: u128 = 1 << 90;
/// Batches of a flood of empty ones, of one of lists, and of one of requests.
const EMPTY_FLOOD: usize = 200;
const LIST_FLOOD: usize = 20;
const REQUEST_FLOOD: usize = 4;

wire_struct! {
    /// A body with a request whose route is longer than a route may be.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct LongBody {
        operations: List<LongGroup, 1>,
        relays: Option<bool>,
        currencies: Option<bool>,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct LongGroup {
        currency: Currency,
        operations: List<LongOperation, 1>,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct LongRequest {
        request_id: RequestId,
        src_hashed_lock: HashedLock,
        route: List<PublicKey, 64>,
        dest_payment: u128,
        total_dest_payment: u128,
        invoice_id: InvoiceId,
        left_fees: u128,
    }
}

wire_enum! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum LongOperation {
        1 = Request(LongRequest),
    }
}

impl Cheater {
    /// Plays a trick that its own node knows nothing of, if the channel is such that it can be played.
    pub(super) fn forge(&mut self, key: PublicKey, trick: FriendTrick) {
        if !self.friend(key).speaks() {
            return self.forge_terms(key, trick);
        }
        let Some(friend) = self.friends.get_mut(&key) else { return };
        let dice = &mut self.dice;
        let Some(messages) = friend.forge(trick, dice) else { return self.forge_terms(key, trick) };
        friend.mode = Mode::Rogue;
        friend.owes_ack = false;
        self.played(trick);
        messages.into_iter().for_each(|message| self.say(key, message));
    }

    /// Tricks that need a link and nothing else.
    fn forge_terms(&mut self, key: PublicKey, trick: FriendTrick) {
        let token = ResetToken(bytes(&mut self.dice));
        let step = self.dice.below(1_000);
        let friend = self.friend(key);
        let message = match trick {
            FriendTrick::WrongTerms if friend.lie.is_none() => {
                let balances =
                    friend.shadow.said.iter().map(|&currency| CurrencyBalance { currency, balance: 1 << 80 });
                friend.lie(ResetTerms {
                    epoch: friend.shadow.epoch.saturating_add(1),
                    reset_token: token,
                    balances: List::truncated(balances.collect::<Vec<_>>()),
                })
            }
            FriendTrick::EndlessTerms => {
                let totals = friend.shadow.totals().map(|totals| (totals.currency, totals.balance));
                let balances = totals.map(|(currency, balance)| CurrencyBalance { currency, balance });
                friend.lie(ResetTerms {
                    epoch: friend.shadow.epoch.saturating_add(1 + step),
                    reset_token: token,
                    balances: List::truncated(balances.collect::<Vec<_>>()),
                })
            }
            FriendTrick::UnknownReset => {
                let reset = friend.shadow.accept(friend.shadow.epoch.saturating_add(1), token);
                friend.mode = Mode::Rogue;
                FriendMessage::Reset(reset)
            }
            _ => return,
        };
        self.played(trick);
        self.say(key, message);
    }
}

impl Friend {
    fn lie(&mut self, terms: ResetTerms) -> FriendMessage {
        self.mode = Mode::Rogue;
        self.is_dead = true;
        self.shadow.ours = Some(terms.clone());
        self.lie = Some(terms.clone());
        FriendMessage::Inconsistent(terms)
    }

    /// What is said; nothing if the trick does not fit.
    fn forge(&mut self, trick: FriendTrick, dice: &mut Dice) -> Option<Vec<FriendMessage>> {
        let batches = match trick {
            FriendTrick::ReplayBatch => vec![self.shadow.kept(dice.next_u64())?.clone()],
            FriendTrick::FloodBatches => (0..EMPTY_FLOOD).map(|_| self.shadow.forge(&Body::default())).collect(),
            FriendTrick::FloodRelays => (0..LIST_FLOOD).map(|_| self.shadow.forge(&invented_relays(dice))).collect(),
            FriendTrick::FloodCurrencies => {
                let said = self.shadow.said.clone();
                (0..LIST_FLOOD).map(|_| self.shadow.forge(&invented_currencies(dice, &said))).collect()
            }
            FriendTrick::FloodRequests => {
                let mut flood = Vec::new();
                let (currency, route, left_fees) = self.known_way(dice)?;
                for _ in 0..REQUEST_FLOOD {
                    let one = |_| Request { left_fees, ..request(dice, route.clone(), 1) };
                    let requests = (0..MAX_BATCH_OPS).map(one).collect::<Vec<_>>();
                    self.forged.extend(requests.iter().map(|request| request.request_id));
                    let body = body(currency, requests.into_iter().map(Operation::Request).collect());
                    flood.push(self.shadow.forge(&body));
                }
                flood
            }
            _ => vec![self.forge_frame(trick, dice).or_else(|| self.forge_operations(trick, dice))?],
        };
        Some(batches.into_iter().map(FriendMessage::Batch).collect())
    }

    /// The way of a request of its own that is open and goes on behind the friend, and what is left for fees there; else a
    /// way that ends at the friend.
    fn known_way(&self, dice: &mut Dice) -> Option<(Currency, Route, u128)> {
        let open: Vec<_> = self.shadow.outgoing.iter().filter(|(_, open)| !open.request.route.is_empty()).collect();
        let way = dice.pick(&open).map(|((currency, _), open)| (*currency, &open.request));
        let way = way.map(|(currency, request)| (currency, request.route.clone(), request.left_fees));
        way.or(Some((*self.shadow.said.first()?, Route::new(), 0)))
    }

    /// A batch with a wrong frame.
    fn forge_frame(&mut self, trick: FriendTrick, dice: &mut Dice) -> Option<Batch> {
        let empty = Body::default();
        let other = Hash(bytes(dice));
        let shadow = &mut self.shadow;
        Some(match trick {
            FriendTrick::WrongTotals => {
                shadow.forge_spoiled(encode(&empty), &empty, |header| header.totals_hash = other)
            }
            FriendTrick::WrongHead => shadow.forge_spoiled(encode(&empty), &empty, |header| header.head = other),
            FriendTrick::WrongFriendHead => {
                shadow.forge_spoiled(encode(&empty), &empty, |header| header.friend_head = other)
            }
            FriendTrick::AckBeyond => shadow.forge_spoiled(encode(&empty), &empty, |header| header.ack += 5),
            FriendTrick::AckBackwards if shadow.applied.seq > 0 => {
                shadow.forge_spoiled(encode(&empty), &empty, |header| header.ack = 0)
            }
            FriendTrick::OldEpoch => {
                let older = shadow.epoch.checked_sub(1).unwrap_or(1);
                shadow.forge_spoiled(encode(&empty), &empty, |header| header.epoch = older)
            }
            FriendTrick::MalformedBody => shadow.forge_spoiled(noise(dice), &empty, |_| {}),
            FriendTrick::OverlongRoute => {
                let currency = *shadow.said.first()?;
                shadow.forge_spoiled(overlong(dice, currency), &empty, |_| {})
            }
            FriendTrick::OtherBody => {
                let mut batch = shadow.forge(&empty);
                batch.body = offset_protocol::codec::Blob::try_from(noise(dice)).ok()?;
                batch
            }
            FriendTrick::MalformedHeader => shadow.seal(noise(dice), encode(&empty)),
            _ => return None,
        })
    }

    /// A batch with operations that no honest friend sends.
    fn forge_operations(&mut self, trick: FriendTrick, dice: &mut Dice) -> Option<Batch> {
        let body = if trick == FriendTrick::RemoveInUse {
            let in_use = self.shadow.totals().any(|totals| !totals.is_zero());
            in_use.then(|| Body { currencies: Some(List::new()), ..Body::default() })?
        } else {
            let (currency, operations) = self.requests_of(trick, dice).or_else(|| self.answers_of(trick, dice))?;
            let requests = operations.iter().filter_map(|operation| match operation {
                Operation::Request(request) => Some(request.request_id),
                _ => None,
            });
            self.forged.extend(requests);
            body(currency, operations)
        };
        Some(self.shadow.forge(&body))
    }

    fn requests_of(&self, trick: FriendTrick, dice: &mut Dice) -> Option<(Currency, Vec<Operation>)> {
        let listed = *self.shadow.said.first()?;
        let one = |request: Request| vec![Operation::Request(request)];
        Some(match trick {
            FriendTrick::BeyondLimit => (listed, one(request(dice, Route::new(), MUCH))),
            FriendTrick::LoopingRoute => {
                let (a, b) = (PublicKey(bytes(dice)), PublicKey(bytes(dice)));
                (listed, one(request(dice, List::truncated(vec![a, b, a]), 1)))
            }
            FriendTrick::InventedRoute => {
                let route = (0..MAX_ROUTE_LEN).map(|_| PublicKey(bytes(dice))).collect::<Vec<_>>();
                (listed, one(request(dice, List::truncated(route), 1)))
            }
            FriendTrick::RepeatedId => {
                let request = request(dice, Route::new(), 1);
                (listed, vec![Operation::Request(request.clone()), Operation::Request(request)])
            }
            FriendTrick::ZeroAmount => (listed, one(request(dice, Route::new(), 0))),
            FriendTrick::HugeAmount => {
                let amount = *dice.pick(&[MAX_AMOUNT + 1, u128::MAX, u128::MAX / 2 + 1])?;
                (listed, one(request(dice, Route::new(), amount)))
            }
            FriendTrick::UnlistedCurrency => ("NOSUCH".parse().ok()?, one(request(dice, Route::new(), 1))),
            FriendTrick::WithdrawOthers => {
                (listed, vec![Operation::Withdraw(Withdraw { request_id: RequestId(bytes(dice)) })])
            }
            FriendTrick::ResponseToNothing => {
                let request_id = RequestId(bytes(dice));
                (listed, vec![Operation::Response(response(dice, request_id))])
            }
            FriendTrick::CommitWrongLock => {
                let ((currency, id), _) = self.shadow.outgoing.iter().find(|(_, open)| open.response.is_some())?;
                let commit = CommitRequest { request_id: *id, src_plain_lock: PlainLock(bytes(dice)) };
                (*currency, vec![Operation::Commit(commit)])
            }
            _ => return None,
        })
    }

    /// Answers to what the friend asked for.
    fn answers_of(&self, trick: FriendTrick, dice: &mut Dice) -> Option<(Currency, Vec<Operation>)> {
        let find = |wanted: fn(&Open) -> bool| {
            self.shadow.incoming.iter().find(|(_, open)| wanted(open)).map(|(key, open)| (*key, open))
        };
        let cancel = |request_id| Operation::Cancel(Cancel { request_id, reason: CancelReason::Busy, hops: 0 });
        let collect = |id, dice: &mut Dice| {
            let (src_plain_lock, dest_plain_lock) = (PlainLock(bytes(dice)), PlainLock(bytes(dice)));
            Operation::Collect(Collect { request_id: id, src_plain_lock, dest_plain_lock })
        };
        Some(match trick {
            FriendTrick::ResponseTwice => {
                let ((currency, _), open) = find(|open| open.response.is_some())?;
                (currency, vec![Operation::Response(open.response.clone()?)])
            }
            FriendTrick::ResponseAfterCancel => {
                let ((currency, id), _) = find(|_| true)?;
                (currency, vec![cancel(id), Operation::Response(response(dice, id))])
            }
            FriendTrick::ForgedResponse => {
                let ((currency, id), _) = find(|open| open.response.is_none())?;
                (currency, vec![Operation::Response(response(dice, id))])
            }
            FriendTrick::CollectWrongSecret => {
                let ((currency, id), _) = find(|open| open.response.is_some())?;
                (currency, vec![collect(id, dice)])
            }
            FriendTrick::CollectUnanswered => {
                let ((currency, id), _) = find(|open| open.response.is_none())?;
                (currency, vec![collect(id, dice)])
            }
            FriendTrick::CancelAnswered => {
                let ((currency, id), _) = find(|open| open.response.is_some())?;
                (currency, vec![cancel(id)])
            }
            FriendTrick::CancelAll => {
                let (currency, _) = *self.shadow.incoming.keys().next()?;
                let ids = self.shadow.incoming.keys().filter(|(of, _)| *of == currency).map(|(_, id)| *id);
                (currency, ids.take(MAX_BATCH_OPS).map(cancel).collect())
            }
            _ => return None,
        })
    }
}

fn body(currency: Currency, operations: Vec<Operation>) -> Body {
    let group = CurrencyOperations { currency, operations: List::truncated(operations) };
    Body { operations: List::truncated(vec![group]), ..Body::default() }
}

/// Another body than the batch's.
pub(super) fn other_body(batch: &Batch) -> Body {
    let is_empty = batch.decode_body().is_ok_and(|body| body == Body::default());
    if is_empty { Body { relays: Some(List::new()), ..Body::default() } } else { Body::default() }
}

/// Whether a batch brings more than an acknowledgement.
pub(super) fn has_content(batch: &Batch) -> bool {
    batch.decode_body().is_ok_and(|body| body != Body::default())
}

/// Whether a batch holds such an operation.
pub(super) fn any_operation(batch: &Batch, wanted: fn(&Operation) -> bool) -> bool {
    let Ok(body) = batch.decode_body() else { return false };
    body.operations.iter().any(|group| group.operations.iter().any(wanted))
}

/// A request that nobody asked for.
fn request(dice: &mut Dice, route: Route, amount: u128) -> Request {
    Request {
        request_id: RequestId(bytes(dice)),
        src_hashed_lock: PlainLock(bytes(dice)).hashed(),
        route,
        dest_payment: amount,
        total_dest_payment: amount,
        invoice_id: InvoiceId(bytes(dice)),
        left_fees: 0,
    }
}

/// A response that nobody signed.
fn response(dice: &mut Dice, request_id: RequestId) -> Response {
    let mut signature = Signature([0; Signature::SIZE]);
    signature.0[..32].copy_from_slice(&bytes::<32>(dice));
    Response {
        request_id,
        dest_hashed_lock: PlainLock(bytes(dice)).hashed(),
        is_complete: true,
        nonce: Nonce(bytes(dice)),
        signature,
    }
}

fn invented_relays(dice: &mut Dice) -> Body {
    let address: Address = "h99999999:4001".parse().unwrap_or_default();
    let relays = (0..MAX_RELAYS)
        .map(|_| RelayAddress { public_key: PublicKey(bytes(dice)), address: address.clone() })
        .collect::<Vec<_>>();
    Body { relays: Some(List::truncated(relays)), ..Body::default() }
}

/// As many currencies as there may be, those that it listed before among them.
fn invented_currencies(dice: &mut Dice, said: &[Currency]) -> Body {
    let mut all: std::collections::BTreeSet<Currency> = said.iter().copied().collect();
    while all.len() < MAX_CURRENCIES {
        all.extend(format!("X{}", dice.below(1 << 40)).parse::<Currency>());
    }
    Body { currencies: Some(List::truncated(all.into_iter().collect::<Vec<_>>())), ..Body::default() }
}

fn overlong(dice: &mut Dice, currency: Currency) -> Vec<u8> {
    let Request { request_id, src_hashed_lock, invoice_id, .. } = request(dice, Route::new(), 1);
    let route = (0..=MAX_ROUTE_LEN).map(|_| PublicKey(bytes(dice))).collect::<Vec<_>>();
    let request = LongRequest {
        request_id,
        src_hashed_lock,
        route: List::truncated(route),
        dest_payment: 1,
        total_dest_payment: 1,
        invoice_id,
        left_fees: 0,
    };
    let group = LongGroup { currency, operations: List::truncated(vec![LongOperation::Request(request)]) };
    encode(&LongBody { operations: List::truncated(vec![group]), relays: None, currencies: None })
}
