//! What apps are told of their commands later: kept until acknowledged, across disconnection and restart.

use offset_protocol::app::Event;
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::{mutant, sometimes};

use super::Funder;
use super::io::{FunderOutput, KeptEvent};
use super::records::{self, EventRecord};
use offset_protocol::lean::LeanMap;

/// Events that are kept for one app. Past it the oldest is forgotten: what it tells can be asked for
/// (`PaymentStatus`, `InvoiceStatus`), and an app that never listens must not fill the disk.
pub const MAX_KEPT_EVENTS: usize = 4_096;

/// Kept events of all apps.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_app: LeanMap<PublicKey, LeanMap<u64, EventRecord>>,
    last: u64,
}

impl Events {
    /// A record read from disk.
    pub(super) fn restore(&mut self, app: PublicKey, number: u64, record: EventRecord) {
        self.last = self.last.max(number);
        self.by_app.get_or_default(app).insert(number, record);
    }

    /// All of them, of all apps.
    pub(super) fn all(&self) -> impl Iterator<Item = &Event> {
        self.by_app.values().flat_map(LeanMap::values).map(|record| &record.event)
    }

    /// The most events that are kept for one app.
    pub(super) fn longest(&self) -> usize {
        self.by_app.values().map(LeanMap::len).max().unwrap_or(0)
    }

    /// Events of one app, oldest first.
    pub(super) fn of(&self, app: &PublicKey) -> Vec<KeptEvent> {
        let kept = |(number, record): (&u64, &EventRecord)| KeptEvent {
            id: record.id,
            number: *number,
            event: record.event.clone(),
        };
        self.by_app.get(app).into_iter().flatten().map(kept).collect()
    }

    /// Apps that have not acknowledged all of theirs.
    pub(super) fn apps_behind(&self) -> usize {
        self.by_app.len()
    }

    /// Whether the same are kept.
    pub(super) fn is_like(&self, other: &Events) -> bool {
        self.by_app == other.by_app
    }

    /// All of them, as text to be compared.
    pub(super) fn portrait(&self) -> String {
        format!("{:?}", self.by_app)
    }
}

impl Funder {
    /// Tells an app, and keeps the event until it is acknowledged.
    pub(super) fn keep_event(&mut self, app: PublicKey, id: CommandId, event: Event) {
        self.events.last += 1;
        let number = self.events.last;
        let kept = self.events.by_app.get_or_default(app);
        sometimes!("funder: an app has not acknowledged an event before the next", !kept.is_empty());
        if kept.len() >= MAX_KEPT_EVENTS
            && let Some((oldest, _)) = kept.pop_first()
        {
            self.changes.remove(records::event_key(&app, oldest));
        }
        let record = EventRecord { id, event: event.clone() };
        if !mutant!(EventNotWritten) {
            self.changes.put(records::event_key(&app, number), &record);
        }
        kept.insert(number, record);
        self.hold(FunderOutput::Event { app, id, number: Some(number), event });
    }

    /// Tells an app, if it is connected.
    pub(super) fn tell(&mut self, app: PublicKey, id: CommandId, event: Event) {
        self.hold(FunderOutput::Event { app, id, number: None, event });
    }

    /// An app has taken note.
    pub(super) fn on_acknowledge(&mut self, app: &PublicKey, id: &CommandId, number: u64) {
        let Some(kept) = self.events.by_app.get_mut(app) else { return };
        if kept.get(&number).is_some_and(|record| record.id == *id) {
            kept.remove(&number);
            self.changes.remove(records::event_key(app, number));
        }
        if kept.is_empty() {
            self.events.by_app.remove(app);
        }
    }
}
