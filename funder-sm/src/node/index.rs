//! The index client's side of a node: words of the one in words of the other, and the versions of reports that are reserved.

use std::collections::VecDeque;

use offset_index_sm::client::requests;
use offset_protocol::codec::{decode, encode};
use offset_protocol::persist::Change;

use crate::funder::{FoundRoutes, FunderInput, QueryId, RestoreError, RouteFailure, RouteQuery};

/// Where the end of the reserved versions stands.
const KEY: &[u8] = b"xindex-versions";
/// Bytes of a number.
const MAX_VALUE: usize = 16;

/// Versions of reports to index servers, reserved by a record of the node: a version is never used twice.
#[derive(Debug)]
pub(super) struct Reservations {
    /// As the database had it at start.
    below: u64,
    /// Being written, oldest first.
    asked: VecDeque<u64>,
}

impl Reservations {
    /// Reads the record; 0 if there is none.
    pub(super) fn restore(records: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, RestoreError> {
        let below = match records.iter().find(|(key, _)| key == KEY) {
            None => 0,
            Some((_, value)) => decode(value, MAX_VALUE)
                .map_err(|why| RestoreError::BadValue { what: "index version", why: why.to_string() })?,
        };
        Ok(Reservations { below, asked: VecDeque::new() })
    }

    pub(super) fn below(&self) -> u64 {
        self.below
    }

    /// The record to write.
    pub(super) fn reserve(&mut self, below: u64) -> Change {
        self.asked.push_back(below);
        Change { key: KEY.to_vec(), value: Some(encode(&below)) }
    }

    /// A record is written: which versions may be used now, if it is ours.
    pub(super) fn durable(&mut self, key: &[u8]) -> Option<u64> {
        if key == KEY { self.asked.pop_front() } else { None }
    }
}

pub(super) fn query(request: RouteQuery) -> requests::RouteQuery {
    let RouteQuery { currency, amount, source, destination, exclude, max_fee } = request;
    requests::RouteQuery { currency, amount, source, destination, exclude, max_fee }
}

pub(super) fn answer(local: u64, result: Result<requests::FoundRoutes, requests::RouteFailure>) -> FunderInput {
    let result = match result {
        Ok(found) => Ok(FoundRoutes { options: found.options.into_vec(), capped: found.capped }),
        // No route carries such an amount.
        Err(requests::RouteFailure::Amount) => Ok(FoundRoutes { options: Vec::new(), capped: false }),
        Err(requests::RouteFailure::NoServer) => Err(RouteFailure::NoServer),
        Err(requests::RouteFailure::Unreachable | requests::RouteFailure::Timeout) => Err(RouteFailure::Unreachable),
        Err(requests::RouteFailure::Busy | requests::RouteFailure::TooMany) => Err(RouteFailure::Busy),
    };
    FunderInput::Routes { query: QueryId(local), result }
}
