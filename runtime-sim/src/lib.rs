//! A whole Offset network in one thread: the very machines of the real programs, under every fault of networks, disks and
//! processes, in simulated time, reproducible from one seed.
//!
//! * [`world`]: hosts, the network between them, the loop.
//! * [`host`]: programs that run, crash and start again; [`servers`] and [`card`]: the
//!   network's programs; [`people`]: their users; [`guests`]: apps with fewer rights.
//! * [`net`], [`disk`], [`clock`], [`latency`], [`signatures`], [`keys`]: what the hosts stand on.
//! * [`queue`], [`dice`], [`trace`]: what makes it fast and the same every time.
//! * [`marks`]: rare states that the machines name, and rare behaviour that is switched on in them.
//! * [`scenario`]: what worlds are like, from which cases are drawn. [`topology`]: who is whose friend.
//! * [`result`]: what a run came to. [`casefile`], [`replay`], [`shrink`], [`diagram`]: a failure is kept,
//!   shown, made small and drawn.
//! * [`mutants`]: machines that are broken on purpose, to check the checkers.
//! * [`cheats`]: who breaks the protocol, and how.
//! * [`faults`]: what goes wrong, and when. [`check`]: what must hold all the same. [`mod@line`]: a scenario.
#![forbid(unsafe_code)]

pub mod bench;
pub mod card;
pub mod case;
pub mod casefile;
pub mod cheats;
pub mod check;
pub mod cli;
pub mod clock;
pub mod diagram;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod full;
pub mod funds;
pub mod guests;
pub mod host;
mod kernel;
pub mod keys;
pub mod latency;
pub mod line;
pub mod marks;
pub mod mutants;
pub mod net;
pub mod people;
pub mod queue;
pub mod replay;
pub mod report;
pub mod result;
pub mod scenario;
pub mod servers;
pub mod shrink;
pub mod signatures;
mod talk;
pub mod topology;
pub mod trace;
pub mod words;
pub mod world;
