//! A cheating friend: a [`Meddler`] between a node's money and its links.
//!
//! | towards a friend it is | what its own node says | what the friend says |
//! |---|---|---|
//! | honest | leaves, but for tricks that bend, drop or repeat messages | is heard |
//! | rogue, from its first forged batch on | is swallowed | is acknowledged by the cheater itself, and not heard |
//!
//! A rogue goes on from its `Shadow` of the channel: it resumes, resends, acknowledges and forges, so that nothing but its
//! last trick is wrong with what it says. When the friend declares the channel inconsistent, the cheater's own node takes
//! over again; its user may agree on a reset, and everything begins anew.

mod forge;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offset_funder_sm::meddle::{Deed, Heard, LinkNews, Meddler};
use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::friend::{Batch, FriendMessage, Operation, Reset, ResetTerms, Resume};
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Alarm, Duration, Instant};

use super::bits::noise;
use super::shadow::Shadow;
use super::{FriendTrick, Play, SharedEvidence, Trick};
use crate::dice::Dice;

/// A cheater looks for an opportunity so often.
const LOOK: Duration = Duration::from_millis(500);
/// What is held up leaves after this time at the latest.
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// A cheater that ignores its friend does so for this long.
const IGNORE: Duration = Duration::from_secs(6);

/// How a cheater behaves towards a friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Its own node speaks.
    Honest,
    /// It speaks by itself.
    Rogue,
}

#[derive(Debug, Default)]
struct Link {
    /// Where the friend says that it stands.
    heard: Option<Resume>,
    said: bool,
}

/// What a cheater knows about one friend.
struct Friend {
    shadow: Shadow,
    mode: Mode,
    link: Option<Link>,
    /// One of the two declared the channel inconsistent, and no reset followed.
    is_dead: bool,
    /// Terms that the cheater's own node knows nothing of.
    lie: Option<ResetTerms>,
    delayed: VecDeque<(Instant, FriendMessage)>,
    ignored_until: Option<Instant>,
    /// As a rogue: the friend said something that has not been acknowledged.
    owes_ack: bool,
    /// It has just been so rude that the friend should end the link.
    is_rude: bool,
    /// Requests that its own node knows nothing of.
    forged: BTreeSet<RequestId>,
}

/// A cheater. What it knows survives its node's crashes.
struct Cheater {
    signer: SharedSigner,
    plays: Vec<Play<FriendTrick>>,
    dice: Dice,
    evidence: SharedEvidence,
    friends: BTreeMap<PublicKey, Friend>,
    deeds: VecDeque<Deed>,
    /// What its earlier lives took, and the latest moment of this one.
    lived: Duration,
    latest: Instant,
    looks_at: Option<Instant>,
}

/// A cheater, to be handed to its node at each start.
#[derive(Clone)]
pub struct SharedCheater(Arc<Mutex<Cheater>>);

impl SharedCheater {
    /// A cheater that plays these tricks as `signer`.
    pub fn new(signer: SharedSigner, plays: Vec<Play<FriendTrick>>, dice: Dice, evidence: SharedEvidence) -> Self {
        SharedCheater(Arc::new(Mutex::new(Cheater {
            signer,
            plays,
            dice,
            evidence,
            friends: BTreeMap::new(),
            deeds: VecDeque::new(),
            lived: Duration::ZERO,
            latest: Instant::ZERO,
            looks_at: None,
        })))
    }

    /// Its node starts (again): all links are gone, and the clock begins anew.
    pub fn start(&self) {
        let mut cheater = self.lock();
        cheater.lived = Duration::from_micros(cheater.lived.as_micros() + cheater.latest.as_micros());
        cheater.latest = Instant::ZERO;
        cheater.looks_at = None;
        cheater.deeds.clear();
        for friend in cheater.friends.values_mut() {
            friend.on_link_down();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cheater> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meddler for SharedCheater {
    fn on_link(&mut self, now: Instant, friend: PublicKey, news: LinkNews) {
        self.lock().at(now).on_link(now, friend, news);
    }

    fn on_outgoing(&mut self, now: Instant, friend: PublicKey, message: FriendMessage) {
        self.lock().at(now).on_outgoing(now, friend, message);
    }

    fn on_incoming(&mut self, now: Instant, friend: PublicKey, message: &FriendMessage) -> Heard {
        self.lock().at(now).on_incoming(now, friend, message)
    }

    fn tick(&mut self, now: Instant) {
        self.lock().at(now).tick(now);
    }

    fn poll_deed(&mut self) -> Option<Deed> {
        self.lock().deeds.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        self.lock().looks_at.map(|at| Alarm { at, why: "cheater: look for an opportunity" })
    }
}

impl Cheater {
    fn at(&mut self, now: Instant) -> &mut Self {
        self.latest = self.latest.max(now);
        self
    }

    /// When it is by the cheater's own count, over all its lives.
    fn age(&self) -> Instant {
        self.latest + self.lived
    }

    fn friend(&mut self, key: PublicKey) -> &mut Friend {
        let signer = &self.signer;
        self.friends.entry(key).or_insert_with(|| Friend::new(Shadow::new(signer.clone(), key)))
    }

    /// The tricks that it plays at this opportunity.
    fn drawn(&mut self) -> Vec<FriendTrick> {
        let age = self.age();
        let dice = &mut self.dice;
        self.plays.iter().filter_map(|play| play.is_on(age, dice)).collect()
    }

    fn played(&self, trick: FriendTrick) {
        self.evidence.played(Trick::Friend(trick));
    }

    fn say(&mut self, friend: PublicKey, message: FriendMessage) {
        self.deeds.push_back(Deed::Say { friend, message });
    }

    // -- links

    fn on_link(&mut self, now: Instant, key: PublicKey, news: LinkNews) {
        let evidence = self.evidence.clone();
        let friend = self.friend(key);
        if std::mem::take(&mut friend.is_rude) && news == LinkNews::Down {
            evidence.noticed("the link was dropped");
        }
        friend.on_link_down();
        if news == LinkNews::Down {
            return;
        }
        friend.link = Some(Link::default());
        if friend.mode == Mode::Rogue && !friend.is_dead {
            self.resume(key);
        }
        self.looks_at = self.looks_at.or(Some(now + LOOK));
    }

    /// As a rogue: says where the shadow stands.
    fn resume(&mut self, key: PublicKey) {
        let friend = self.friend(key);
        let resume = friend.shadow.resume();
        if let Some(link) = &mut friend.link {
            link.said = true;
        }
        self.say(key, FriendMessage::Resume(resume));
    }

    // -- what its own node says

    fn on_outgoing(&mut self, now: Instant, key: PublicKey, message: FriendMessage) {
        if self.friend(key).mode == Mode::Rogue {
            return;
        }
        let drawn = self.drawn();
        match message {
            FriendMessage::Batch(batch) => self.on_own_batch(now, key, batch, &drawn),
            FriendMessage::Resume(resume) => self.on_own_resume(now, key, resume, &drawn),
            FriendMessage::Limits(limits) => self.leave(now, key, FriendMessage::Limits(limits), &drawn),
            FriendMessage::Inconsistent(terms) => {
                let friend = self.friend(key);
                friend.shadow.ours = Some(terms.clone());
                friend.is_dead = true;
                self.leave(now, key, FriendMessage::Inconsistent(terms), &drawn);
            }
            FriendMessage::Reset(reset) => {
                let friend = self.friend(key);
                friend.shadow.on_reset(&reset);
                friend.is_dead = false;
                self.leave(now, key, FriendMessage::Reset(reset), &drawn);
            }
        }
    }

    fn on_own_batch(&mut self, now: Instant, key: PublicKey, batch: Batch, drawn: &[FriendTrick]) {
        let holds = |wanted: fn(&Operation) -> bool| forge::any_operation(&batch, wanted);
        let holds_response = holds(|operation| matches!(operation, Operation::Response(_)));
        let holds_collect = holds(|operation| matches!(operation, Operation::Collect(_)));
        let fits = |trick: &&FriendTrick| match trick {
            FriendTrick::WithholdResponse => holds_response,
            FriendTrick::WithholdCollect => holds_collect,
            FriendTrick::DropBatch | FriendTrick::RepeatBatch | FriendTrick::BadSignature | FriendTrick::TwoBatches => {
                true
            }
            _ => false,
        };
        let Some(trick) = drawn.iter().find(fits).copied() else {
            self.friend(key).shadow.on_made(&batch);
            return self.leave(now, key, FriendMessage::Batch(batch), drawn);
        };
        self.played(trick);
        let friend = self.friend(key);
        match trick {
            FriendTrick::WithholdResponse | FriendTrick::WithholdCollect => friend.mode = Mode::Rogue,
            FriendTrick::BadSignature => {
                let mut batch = batch;
                batch.signature.0[0] ^= 1;
                self.leave(now, key, FriendMessage::Batch(batch), drawn);
            }
            FriendTrick::RepeatBatch => {
                friend.shadow.on_made(&batch);
                self.leave(now, key, FriendMessage::Batch(batch.clone()), drawn);
                self.leave(now, key, FriendMessage::Batch(batch), drawn);
            }
            FriendTrick::TwoBatches => {
                friend.shadow.on_made(&batch);
                let other = friend.shadow.forge_again(&forge::other_body(&batch));
                self.leave(now, key, FriendMessage::Batch(batch), drawn);
                self.leave(now, key, FriendMessage::Batch(other), drawn);
            }
            // It never leaves.
            _ => {}
        }
    }

    fn on_own_resume(&mut self, now: Instant, key: PublicKey, resume: Resume, drawn: &[FriendTrick]) {
        let is_resume_trick = |trick: &&FriendTrick| forge::RESUME_TRICKS.contains(trick);
        let friend = self.friend(key);
        if let Some(link) = &mut friend.link {
            link.said = true;
        }
        let mut said = resume.clone();
        let mut again = None;
        if let Some(trick) = drawn.iter().find(is_resume_trick).copied() {
            match trick {
                FriendTrick::ResumeAhead => said.in_seq = said.in_seq.saturating_add(3),
                FriendTrick::ResumeOldEpoch => said.epoch = said.epoch.checked_sub(1).unwrap_or(said.epoch + 1),
                FriendTrick::ResumeForgetful if said.out_seq > 0 => said.out_seq -= 1,
                FriendTrick::ResumeTwice => again = Some(FriendMessage::Resume(resume)),
                FriendTrick::BatchBeforeResume => {
                    let Some(batch) = friend.shadow.kept(0).cloned() else {
                        return self.leave(now, key, FriendMessage::Resume(said), drawn);
                    };
                    self.leave(now, key, FriendMessage::Batch(batch), drawn);
                }
                _ => return self.leave(now, key, FriendMessage::Resume(said), drawn),
            }
            self.played(trick);
            self.friend(key).is_rude = matches!(trick, FriendTrick::ResumeTwice | FriendTrick::BatchBeforeResume);
        }
        self.leave(now, key, FriendMessage::Resume(said), drawn);
        if let Some(again) = again {
            self.leave(now, key, again, drawn);
        }
    }

    /// A message leaves, now or later; never before one that waits.
    fn leave(&mut self, now: Instant, key: PublicKey, message: FriendMessage, drawn: &[FriendTrick]) {
        let delay = self.dice.duration(Duration::ZERO, LONGEST_DELAY);
        let starts = drawn.contains(&FriendTrick::Delay);
        let friend = self.friend(key);
        let waits = friend.delayed.back().map(|(until, _)| *until);
        if starts && waits.is_none() {
            friend.delayed.push_back((now + delay, message));
            self.played(FriendTrick::Delay);
        } else if let Some(until) = waits {
            friend.delayed.push_back((until, message));
        } else {
            self.say(key, message);
        }
    }

    // -- what the friend says

    fn on_incoming(&mut self, _now: Instant, key: PublicKey, message: &FriendMessage) -> Heard {
        let evidence = self.evidence.clone();
        let friend = self.friend(key);
        if friend.ignored_until.is_some() {
            return Heard::No;
        }
        match message {
            FriendMessage::Resume(resume) => {
                if let Some(link) = &mut friend.link {
                    link.heard = Some(resume.clone());
                }
                if friend.mode == Mode::Rogue && !friend.is_dead {
                    let again = friend.shadow.kept_after(resume.in_seq);
                    again.into_iter().for_each(|batch| self.say(key, FriendMessage::Batch(batch)));
                }
            }
            FriendMessage::Batch(batch) => {
                friend.notice_refusals(batch, &evidence);
                friend.shadow.on_applied(batch);
                friend.owes_ack |= forge::has_content(batch);
            }
            FriendMessage::Inconsistent(terms) => {
                friend.shadow.theirs = Some(terms.clone());
                friend.is_dead = true;
                if friend.lie.is_none() {
                    friend.mode = Mode::Honest;
                    return Heard::Yes;
                }
            }
            FriendMessage::Limits(_) => {}
            FriendMessage::Reset(reset) => return self.on_friends_reset(key, reset),
        }
        if self.friend(key).mode == Mode::Rogue { Heard::No } else { Heard::Yes }
    }

    /// The friend accepts terms: the lie, or those of the cheater's own node.
    fn on_friends_reset(&mut self, key: PublicKey, reset: &Reset) -> Heard {
        let friend = self.friend(key);
        let is_lie = friend.lie.as_ref().is_some_and(|lie| lie.reset_token == reset.reset_token);
        friend.shadow.on_reset(reset);
        friend.is_dead = false;
        friend.lie = None;
        friend.mode = if is_lie { Mode::Rogue } else { Mode::Honest };
        if !is_lie {
            return Heard::Yes;
        }
        self.resume(key);
        Heard::No
    }

    // -- opportunities

    fn tick(&mut self, now: Instant) {
        if self.looks_at.is_none_or(|at| at > now) {
            return;
        }
        let keys: Vec<_> = self.friends.keys().copied().collect();
        for key in keys {
            if self.friend(key).link.is_some() {
                self.let_delayed_go(now, key);
                self.stop_ignoring(now, key);
                self.look(now, key);
                self.acknowledge(key);
            }
        }
        let linked = self.friends.values().any(|friend| friend.link.is_some());
        self.looks_at = linked.then_some(now + LOOK);
    }

    fn let_delayed_go(&mut self, now: Instant, key: PublicKey) {
        while self.friend(key).delayed.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, message)) = self.friend(key).delayed.pop_front() else { return };
            self.say(key, message);
        }
    }

    /// What was not heard must be said again: only a new link brings that.
    fn stop_ignoring(&mut self, now: Instant, key: PublicKey) {
        let friend = self.friend(key);
        if friend.ignored_until.is_some_and(|until| until <= now) {
            friend.ignored_until = None;
            self.deeds.push_back(Deed::HangUp { friend: key });
        }
    }

    fn look(&mut self, now: Instant, key: PublicKey) {
        for trick in self.drawn() {
            match trick {
                FriendTrick::Garbage => {
                    let bytes = noise(&mut self.dice);
                    self.played(trick);
                    self.friend(key).is_rude = true;
                    self.deeds.push_back(Deed::SayBytes { friend: key, bytes });
                }
                FriendTrick::GarbageInTunnel => {
                    let bytes = noise(&mut self.dice);
                    self.played(trick);
                    self.friend(key).is_rude = true;
                    self.deeds.push_back(Deed::Garble { friend: key, bytes });
                }
                FriendTrick::HangUp => {
                    self.played(trick);
                    self.deeds.push_back(Deed::HangUp { friend: key });
                }
                FriendTrick::Ignore => {
                    self.played(trick);
                    self.friend(key).ignored_until.get_or_insert(now + IGNORE);
                }
                _ => self.forge(key, trick),
            }
        }
    }

    /// As a rogue: an empty batch, if the friend waits for one.
    fn acknowledge(&mut self, key: PublicKey) {
        let friend = self.friend(key);
        if friend.mode == Mode::Rogue && friend.owes_ack && friend.speaks() {
            friend.owes_ack = false;
            let batch = friend.shadow.forge(&offset_protocol::friend::Body::default());
            self.say(key, FriendMessage::Batch(batch));
        }
    }
}

impl Friend {
    fn new(shadow: Shadow) -> Self {
        Friend {
            shadow,
            mode: Mode::Honest,
            link: None,
            is_dead: false,
            lie: None,
            delayed: VecDeque::new(),
            ignored_until: None,
            owes_ack: false,
            is_rude: false,
            forged: BTreeSet::new(),
        }
    }

    fn on_link_down(&mut self) {
        self.link = None;
        self.delayed.clear();
        self.ignored_until = None;
        if self.is_dead {
            // Its own node may agree on something now.
            self.lie = None;
            self.mode = Mode::Honest;
        }
    }

    /// Whether batches flow.
    fn speaks(&self) -> bool {
        !self.is_dead && self.link.as_ref().is_some_and(|link| link.said && link.heard.is_some())
    }

    fn notice_refusals(&mut self, batch: &Batch, evidence: &SharedEvidence) {
        let Ok(body) = batch.decode_body() else { return };
        for operation in body.operations.iter().flat_map(|group| group.operations.iter()) {
            if let Operation::Cancel(cancel) = operation
                && self.forged.remove(&cancel.request_id)
            {
                evidence.noticed(format!("refused: {:?}", cancel.reason));
            }
        }
    }
}
