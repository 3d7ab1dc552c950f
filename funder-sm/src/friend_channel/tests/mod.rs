//! Friends who are honest, and who lie: two parties of [`pair`](super::pair).

mod guard;
mod lies;
mod places;
mod properties;
mod reserve;
mod resets;
mod scenarios;
mod unlisted;

use offset_protocol::bytes::{Hash, PlainLock};
use offset_protocol::friend::FriendMessage;
use offset_protocol::fuzz::Cheap;

use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::{Duration, Seed};
use offset_protocol::payment::{CancelReason, Collect, CommitRequest, Request};

use super::fuzz::{self, Lie, next_batch, operations};
use super::pair::*;
use super::*;
