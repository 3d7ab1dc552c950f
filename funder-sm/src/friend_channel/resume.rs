//! The link comes up and goes down: who stands where, and what must be said again.

use offset_protocol::friend::{Resume, genesis_head};

use super::records::Key;
use super::{Channel, ChannelEvent, Env, Link, LinkMisbehaviour, MAX_STANDS, Mark, Misbehaviour, Refused, State};
use offset_protocol::limits::ACK_DELAY;
use offset_protocol::{buggify, mutant, sometimes};

/// The link.
impl Channel {
    /// A new link is up, on which nothing was said.
    pub fn link_up(&mut self) {
        self.link = Some(Link::default());
    }

    /// The link is down. Requests that were never signed come back as [`ChannelEvent::Dropped`]: nobody knows for how long.
    pub fn link_down(&mut self, events: &mut Vec<ChannelEvent>) {
        self.link = None;
        self.drop_unsent_requests(Refused::Offline, events);
        if mutant!(AnswersDropped) {
            self.queue.clear();
        }
    }

    /// The friend says where it stands.
    pub fn on_resume(&mut self, env: &mut Env<'_>, resume: &Resume, events: &mut Vec<ChannelEvent>) {
        if !self.may_say_where_it_stands(events) {
            return;
        }
        if self.is_resumed() {
            events.push(ChannelEvent::DropLink(LinkMisbehaviour::ResumedTwice));
            return;
        }
        match &self.state {
            State::Inconsistent(_) => self.raise_our_epoch(resume.epoch.saturating_add(1), events),
            State::Unconfirmed(_) if self.is_before_reset(resume) => {}
            State::Unconfirmed(_) | State::Consistent => match self.check_resume(resume) {
                Ok(()) => self.resumed(env, resume, events),
                Err(why) => self.become_inconsistent(env, why, resume.epoch, events),
            },
        }
    }

    /// Whether a `Resume`, `Inconsistent` or `Reset` is heard: on a link that is up, and not without end.
    pub(super) fn may_say_where_it_stands(&mut self, events: &mut Vec<ChannelEvent>) -> bool {
        let Some(link) = &mut self.link else { return false };
        if link.stands_heard >= MAX_STANDS {
            events.push(ChannelEvent::DropLink(LinkMisbehaviour::StandsTooOften));
            return false;
        }
        link.stands_heard += 1;
        true
    }

    /// While our acceptance is unconfirmed: the friend has not heard of it, or has accepted our terms at the same time and
    /// will come over to one side.
    fn is_before_reset(&self, resume: &Resume) -> bool {
        let State::Unconfirmed(unconfirmed) = &self.state else {
            return false;
        };
        let ours = genesis_head(&self.us, &self.friend, unconfirmed.ours.epoch, &unconfirmed.ours.reset_token);
        resume.epoch < self.core.epoch || (resume.epoch == unconfirmed.ours.epoch && resume.in_head == ours)
    }

    fn check_resume(&self, resume: &Resume) -> Result<(), Misbehaviour> {
        let core = &self.core;
        if resume.epoch != core.epoch {
            return Err(Misbehaviour::ResumeEpoch { ours: core.epoch, theirs: resume.epoch });
        }
        if resume.in_seq < core.signed_for.seq {
            return Err(Misbehaviour::ResumeForgot { applied: resume.in_seq, signed: core.signed_for.seq });
        }
        if resume.out_seq < core.applied.seq {
            return Err(Misbehaviour::ResumeLost { made: resume.out_seq, applied: core.applied.seq });
        }
        let last = core.made.seq;
        let mark = self.our_mark(resume.in_seq).ok_or(Misbehaviour::ResumeBeyond { applied: resume.in_seq, last })?;
        if mark.head == resume.in_head { Ok(()) } else { Err(Misbehaviour::ResumeHead) }
    }

    fn resumed(&mut self, env: &Env<'_>, resume: &Resume, events: &mut Vec<ChannelEvent>) {
        if matches!(self.state, State::Unconfirmed(_)) {
            self.state = State::Consistent;
            self.dirty.say(Key::State);
        }
        let owes_ack = self.core.owes_ack;
        sometimes!("channel: resumed, and an acknowledgement is owed from before", owes_ack);
        let more = if buggify!("channel: resend more than was asked for", 300) { 2 } else { 0 };
        if let Some(link) = &mut self.link {
            link.is_resumed = true;
            link.resend_after = Some(resume.in_seq.saturating_sub(more)).filter(|_| !mutant!(ResumeIgnoresUnacked));
            link.ack_at = owes_ack.then(|| env.now + ACK_DELAY);
        }
        events.push(ChannelEvent::Resumed);
    }

    /// Our log at `seq`, if we still know it: from what the friend has signed for up to our last batch.
    pub(super) fn our_mark(&self, seq: u64) -> Option<Mark> {
        if seq == self.core.signed_for.seq {
            return Some(self.core.signed_for);
        }
        self.unacked_at(seq).map(|unacked| unacked.mark)
    }
}
