//! The conversation of nodes and relays.

use offset_protocol::relay::{FailReason, FromRelay, LimitScope, RejectReason, RelayShare, ToRelay};

use super::book::{Page, Vector};
use super::cast::{ALICE, BOB, key, relay};

pub(crate) fn page() -> Page {
    let mut vectors = to_relay();
    vectors.extend(from_relay());
    vectors.push(Vector::wire("relay address", "RelayAddress", relay()));
    Page { name: "relay.json", about: "SPEC 7: every message of both directions.", vectors }
}

fn to_relay() -> Vec<Vector> {
    let mut vectors = vec![
        Vector::wire("listen", "ToRelay", ToRelay::Listen),
        Vector::wire("connect", "ToRelay", ToRelay::Connect { to: key(BOB) }),
        Vector::wire("accept", "ToRelay", ToRelay::Accept { from: key(ALICE) }),
    ];
    for reason in [RejectReason::Unknown, RejectReason::Disabled, RejectReason::Busy] {
        let message = ToRelay::Reject { from: key(ALICE), reason };
        vectors.push(Vector::wire(format!("reject: {reason}"), "ToRelay", message));
    }
    vectors
}

fn from_relay() -> Vec<Vector> {
    let mut reasons = vec![
        FailReason::NotListening,
        FailReason::Rejected { reason: RejectReason::Unknown },
        FailReason::Timeout,
        FailReason::NoSuchConnection,
        FailReason::Closing,
        FailReason::Replaced,
        FailReason::NotAllowed,
    ];
    let scopes = [LimitScope::Identity, LimitScope::Address, LimitScope::Total, LimitScope::Other];
    reasons.extend(scopes.map(|limit| FailReason::Busy { limit }));
    let share = RelayShare { halves: 512, tunnel_ends: 2_048, bytes_per_s: 20 << 20, burst_bytes: 64 << 20 };
    let mut vectors = vec![
        Vector::wire("ready", "FromRelay", FromRelay::Ready),
        Vector::wire("incoming", "FromRelay", FromRelay::Incoming { from: key(ALICE) }),
        Vector::wire("closing", "FromRelay", FromRelay::Closing),
        Vector::wire("listening", "FromRelay", FromRelay::Listening { share }),
    ];
    for reason in reasons {
        vectors.push(Vector::wire(format!("failed: {reason}"), "FromRelay", FromRelay::Failed { reason }));
    }
    vectors
}
