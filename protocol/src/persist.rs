//! Persist, then speak: what a machine hands to storage, and how it learns that it may talk about it.
//!
//! A machine emits changes under a growing [`Revision`]; it keeps back every message that speaks for them until the runtime
//! answers that the revision is durable. At most one revision is in flight.

use serde::{Deserialize, Serialize};

/// Counts what was handed to storage since the machine was born or restored; starts at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// One record written or removed. A record is one entity: a friend, an open request, a payment, an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The record's key: 1 to 200 bytes, the first one names the kind.
    pub key: Vec<u8>,
    /// The record's new value, or `None` to remove it.
    pub value: Option<Vec<u8>>,
}
