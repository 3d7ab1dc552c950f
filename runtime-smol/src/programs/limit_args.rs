//! Flags for limits: those of the door, which all servers have, and those of a relay. Defaults are those of the structs that
//! the flags fill; what makes no sense together is refused before any door opens.

use offset_index_sm::server::ServerLimits;
use offset_protocol::machine::Duration;
use offset_relay_sm::server::{LEAST_BYTES_PER_S, Limits, LimitsError, Quota, TunnelRate};

use super::exit::Failure;
use crate::connection::{LEAST_BUDGET, PIPE_BYTES, STALL_LIMIT};
use crate::gate::{AcceptRate, DoorLimits, DoorLimitsError};
use crate::limits::{NetLimits, NetLimitsError};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Limits of the connections of every server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits of connections")]
pub(super) struct NetArgs {
    /// Connections a second that each door lets in before anybody knows whose they are, in the long run; a quarter is for
    /// addresses that have not come for a second
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().accepts.per_s, value_parser = some())]
    accept_rate: u32,
    /// Connections that are let in at once after a rest
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().accepts.burst, value_parser = some())]
    accept_burst: u32,
    /// The same of one address (IPv6: one /56), in the long run
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().accepts_per_address.per_s, value_parser = some())]
    accept_rate_per_address: u32,
    /// The same of one address, at once after a rest
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().accepts_per_address.burst, value_parser = some())]
    accept_burst_per_address: u32,
    /// Handshakes in progress at each door; with all places taken the oldest of whoever has most gives way
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().handshakes, value_parser = some())]
    max_handshakes: u32,
    /// Handshakes in progress from one address; with all places taken its own oldest gives way, after 50 ms
    /// if it has said nothing, else after a second
    #[arg(long, value_name = "N", default_value_t = DoorLimits::default().handshakes_per_address, value_parser = some())]
    max_handshakes_per_address: u32,
    /// Seconds after which a peer that takes less than a KiB a second of what waits for it is disconnected
    #[arg(long, value_name = "SECONDS", default_value_t = STALL_LIMIT.as_micros() / 1_000_000, value_parser = clap::value_parser!(u64).range(1..=STALL_LIMIT.as_micros() / 1_000_000))]
    stall_limit: u64,
    /// MiB in the buffers of all connections from which on each gets by with a message at a time; at a quarter more those that
    /// hold most for longest are closed
    #[arg(long, value_name = "MIB", default_value_t = NetLimits::default().memory_bytes as u64 / MIB, value_parser = clap::value_parser!(u64).range(LEAST_BUDGET as u64 / MIB..=1 << 20))]
    buffer_memory: u64,
}

/// The sentence, and the flag that it is about.
fn of_flag(flag: &str, error: impl std::fmt::Display) -> String {
    format!("--{flag}: {error}")
}

/// The flag of a limit that does not fit another one.
fn net_flag(error: &NetLimitsError) -> &'static str {
    match error {
        NetLimitsError::Door(DoorLimitsError::Zero(what) | DoorLimitsError::AboveTotal { what, .. }) => match *what {
            "accept rate" => "accept-rate-per-address",
            "accept burst" => "accept-burst-per-address",
            _ => "max-handshakes-per-address",
        },
        NetLimitsError::Memory => "buffer-memory",
        NetLimitsError::Pipe => "tunnel-buffer",
    }
}

/// The same of a relay.
fn relay_flag(error: &LimitsError) -> String {
    let (LimitsError::TooSmall { what, .. } | LimitsError::AboveTotal { what, .. }) = error;
    let places = match what.places() {
        "set-ups" => "max-setups",
        "listeners" => "max-listeners",
        "halves" => "max-halves",
        "ends of tunnels" => "max-tunnel-ends",
        "calls that wait for one node" => "max-waiting-calls",
        "bytes a second through tunnels" => "tunnel-rate",
        _ => "tunnel-burst",
    };
    let whose = match what.whose() {
        " per identity" => "-per-identity",
        " per address" => "-per-address",
        _ => "",
    };
    format!("{places}{whose}")
}

fn some() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl NetArgs {
    /// What the flags say.
    ///
    /// # Errors
    /// If they make no sense together.
    pub(super) fn limits(&self) -> Result<NetLimits, Failure> {
        self.with_pipes(PIPE_BYTES)
    }

    fn with_pipes(&self, pipe_bytes: usize) -> Result<NetLimits, Failure> {
        let accepts = AcceptRate { per_s: self.accept_rate, burst: self.accept_burst };
        let accepts_per_address =
            AcceptRate { per_s: self.accept_rate_per_address, burst: self.accept_burst_per_address };
        let (handshakes, handshakes_per_address) = (self.max_handshakes, self.max_handshakes_per_address);
        let limits = NetLimits {
            door: DoorLimits { accepts, accepts_per_address, handshakes, handshakes_per_address },
            stall: Duration::from_secs(self.stall_limit),
            memory_bytes: usize::try_from(self.buffer_memory * MIB).unwrap_or(usize::MAX),
            pipe_bytes,
        };
        limits.check().map_err(|error| Failure::usage(of_flag(net_flag(&error), error)))?;
        Ok(limits)
    }
}

/// Limits of a relay.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits of a relay")]
pub(super) struct RelayArgs {
    /// Connections that have not said what they are for
    #[arg(long, value_name = "N", default_value_t = Limits::default().setups.total, value_parser = some())]
    max_setups: u32,
    /// The same of one identity; a newer one drives out its oldest
    #[arg(long, value_name = "N", default_value_t = Limits::default().setups.per_identity, value_parser = some())]
    max_setups_per_identity: u32,
    /// The same of one address
    #[arg(long, value_name = "N", default_value_t = Limits::default().setups.per_address, value_parser = some())]
    max_setups_per_address: u32,
    /// Nodes that wait for calls
    #[arg(long, value_name = "N", default_value_t = Limits::default().listeners.total, value_parser = some())]
    max_listeners: u32,
    /// The same of one address
    #[arg(long, value_name = "N", default_value_t = Limits::default().listeners.per_address, value_parser = some())]
    max_listeners_per_address: u32,
    /// Calls that wait to be accepted
    #[arg(long, value_name = "N", default_value_t = Limits::default().halves.total, value_parser = some())]
    max_halves: u32,
    /// The same of one calling identity; a newer one drives out its oldest
    #[arg(long, value_name = "N", default_value_t = Limits::default().halves.per_identity, value_parser = some())]
    max_halves_per_identity: u32,
    /// The same of one calling address
    #[arg(long, value_name = "N", default_value_t = Limits::default().halves.per_address, value_parser = some())]
    max_halves_per_address: u32,
    /// Calls that wait for one called node
    #[arg(long, value_name = "N", default_value_t = Limits::default().waiting_calls, value_parser = some())]
    max_waiting_calls: u32,
    /// Ends of tunnels: a tunnel has two
    #[arg(long, value_name = "N", default_value_t = Limits::default().tunnel_ends.total, value_parser = some())]
    max_tunnel_ends: u32,
    /// The same of one identity; it needs two for each friend
    #[arg(long, value_name = "N", default_value_t = Limits::default().tunnel_ends.per_identity, value_parser = some())]
    max_tunnel_ends_per_identity: u32,
    /// The same of one address
    #[arg(long, value_name = "N", default_value_t = Limits::default().tunnel_ends.per_address, value_parser = some())]
    max_tunnel_ends_per_address: u32,
    /// Bytes a second that an identity may send through its tunnels, in the long run
    #[arg(long, value_name = "BYTES", default_value_t = TunnelRate::default().bytes_per_s, value_parser = clap::value_parser!(u64).range(LEAST_BYTES_PER_S..))]
    tunnel_rate: u64,
    /// Bytes that it may send at once after a rest
    #[arg(long, value_name = "BYTES", default_value_t = TunnelRate::default().burst_bytes, value_parser = clap::value_parser!(u64).range(1..))]
    tunnel_burst: u64,
    /// KiB that wait in one direction of a tunnel, and one message more, before its sender has to wait
    #[arg(long, value_name = "KIB", default_value_t = PIPE_BYTES as u64 / KIB, value_parser = clap::value_parser!(u64).range(4..=64 * 1_024))]
    tunnel_buffer: u64,
}

impl RelayArgs {
    /// What the flags say, of the relay and of its connections.
    ///
    /// # Errors
    /// If they make no sense together.
    pub(super) fn limits(&self, net: &NetArgs) -> Result<(Limits, NetLimits), Failure> {
        let quota = |per_identity, per_address, total| Quota { per_identity, per_address, total };
        let limits = Limits {
            setups: quota(self.max_setups_per_identity, self.max_setups_per_address, self.max_setups),
            listeners: quota(1, self.max_listeners_per_address, self.max_listeners),
            halves: quota(self.max_halves_per_identity, self.max_halves_per_address, self.max_halves),
            tunnel_ends: quota(
                self.max_tunnel_ends_per_identity,
                self.max_tunnel_ends_per_address,
                self.max_tunnel_ends,
            ),
            waiting_calls: self.max_waiting_calls,
            tunnel_rate: TunnelRate { bytes_per_s: self.tunnel_rate, burst_bytes: self.tunnel_burst },
        };
        limits.check().map_err(|error| Failure::usage(of_flag(&relay_flag(&error), error)))?;
        let pipe_bytes = usize::try_from(self.tunnel_buffer * KIB).unwrap_or(usize::MAX);
        Ok((limits, net.with_pipes(pipe_bytes)?))
    }
}

/// Limits of an index server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits of an index server")]
pub(super) struct IndexArgs {
    /// Nodes in memory, those included that left lately
    #[arg(long, value_name = "N", default_value_t = count(ServerLimits::default().max_nodes), value_parser = some())]
    max_nodes: u32,
    /// Entries of all reports: a friend in a currency each
    #[arg(long, value_name = "N", default_value_t = count(ServerLimits::default().max_entries), value_parser = some())]
    max_entries: u32,
    /// Nodes in the graphs of all currencies together, those included that others only name
    #[arg(long, value_name = "N", default_value_t = count(ServerLimits::default().max_numbers), value_parser = some())]
    max_numbers: u32,
    /// Sessions of nodes
    #[arg(long, value_name = "N", default_value_t = count(ServerLimits::default().max_clients), value_parser = some())]
    max_clients: u32,
    /// The same of one address; a sixteenth if left out
    #[arg(long, value_name = "N", value_parser = some())]
    max_clients_per_address: Option<u32>,
    /// Lines of the reports of one address, an entry or a node each; a sixteenth of max-numbers if left out
    #[arg(long, value_name = "N", value_parser = some())]
    max_lines_per_address: Option<u32>,
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

impl IndexArgs {
    /// What the flags say.
    ///
    /// # Errors
    /// If they make no sense together.
    pub(super) fn limits(&self, workers: usize) -> Result<ServerLimits, Failure> {
        let share = |of_all: u32| of_all.div_ceil(16);
        let clients_each = self.max_clients_per_address.unwrap_or(share(self.max_clients));
        let lines_each = self.max_lines_per_address.unwrap_or(share(self.max_numbers));
        for (flag, limit, total) in [
            ("max-clients-per-address", clients_each, self.max_clients),
            ("max-lines-per-address", lines_each, self.max_entries),
        ] {
            if limit > total {
                let sentence = format_args!("{limit} for one address must be at most {total}, which is for all");
                return Err(Failure::usage(of_flag(flag, sentence)));
            }
        }
        let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(ServerLimits {
            max_nodes: size(self.max_nodes),
            max_entries: size(self.max_entries),
            max_numbers: size(self.max_numbers),
            max_clients: size(self.max_clients),
            max_clients_each: size(clients_each),
            max_lines_each: size(lines_each),
            workers,
            ..ServerLimits::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        net: NetArgs,
        #[command(flatten)]
        relay: RelayArgs,
    }

    fn limits(flags: &str) -> Result<(Limits, NetLimits), Failure> {
        let args = Args::try_parse_from(["relay"].into_iter().chain(flags.split_whitespace())).unwrap();
        args.relay.limits(&args.net)
    }

    #[test]
    fn an_index_server_has_the_limits_of_its_flags_and_shares_of_them() {
        #[derive(clap::Parser)]
        struct Args {
            #[command(flatten)]
            index: IndexArgs,
        }
        let limits = |flags: &str| {
            let args = Args::try_parse_from(["index"].into_iter().chain(flags.split_whitespace())).unwrap();
            args.index.limits(1)
        };
        assert_eq!(limits("").unwrap(), ServerLimits::default());
        let flags = "--max-nodes 100 --max-entries 200 --max-numbers 160 --max-clients 32";
        let small = ServerLimits {
            max_nodes: 100,
            max_entries: 200,
            max_numbers: 160,
            max_clients: 32,
            max_clients_each: 2,
            max_lines_each: 10,
            ..ServerLimits::default()
        };
        assert_eq!(limits(flags).unwrap(), small);
        let flags = format!("{flags} --max-clients-per-address 32 --max-lines-per-address 200");
        let wide = ServerLimits { max_clients_each: 32, max_lines_each: 200, ..small };
        assert_eq!(limits(&flags).unwrap(), wide);
        let failure = limits("--max-clients 10 --max-clients-per-address 11").unwrap_err();
        assert_eq!(failure.exit, super::super::exit::Exit::Usage);
        assert!(failure.sentence.starts_with("--max-clients-per-address: 11"), "{}", failure.sentence);
    }

    #[test]
    fn without_flags_everything_is_as_the_structs_say() {
        assert_eq!(limits("").unwrap(), (Limits::default(), NetLimits::default()));
    }

    #[test]
    fn every_flag_reaches_its_limit() {
        let flags = "--accept-rate 11 --accept-burst 12 --accept-rate-per-address 3 --accept-burst-per-address 4 \
            --max-handshakes 15 --max-handshakes-per-address 6 --stall-limit 7 --buffer-memory 18 --max-setups 30 \
            --max-setups-per-identity 8 --max-setups-per-address 9 --max-listeners 31 --max-listeners-per-address 10 \
            --max-halves 32 --max-halves-per-identity 13 --max-halves-per-address 14 --max-waiting-calls 16 \
            --max-tunnel-ends 33 --max-tunnel-ends-per-identity 17 --max-tunnel-ends-per-address 19 --tunnel-rate 40000 \
            --tunnel-burst 3000 --tunnel-buffer 20";
        let quota = |per_identity, per_address, total| Quota { per_identity, per_address, total };
        let relay = Limits {
            setups: quota(8, 9, 30),
            listeners: quota(1, 10, 31),
            halves: quota(13, 14, 32),
            tunnel_ends: quota(17, 19, 33),
            waiting_calls: 16,
            tunnel_rate: TunnelRate { bytes_per_s: 40_000, burst_bytes: 3_000 },
        };
        let door = DoorLimits {
            accepts: AcceptRate { per_s: 11, burst: 12 },
            accepts_per_address: AcceptRate { per_s: 3, burst: 4 },
            handshakes: 15,
            handshakes_per_address: 6,
        };
        let (stall, memory_bytes, pipe_bytes) = (Duration::from_secs(7), 18 << 20, 20 << 10);
        assert_eq!(limits(flags).unwrap(), (relay, NetLimits { door, stall, memory_bytes, pipe_bytes }));
    }

    #[test]
    fn what_makes_no_sense_together_is_wrong_usage() {
        let wrong = |flags: &str| {
            let failure = limits(flags).unwrap_err();
            assert_eq!(failure.exit, super::super::exit::Exit::Usage);
            failure.sentence
        };
        for (flags, says) in [
            ("--max-setups 100", "--max-setups-per-identity: set-ups per identity must be at most 100"),
            ("--max-listeners 10", "--max-listeners-per-address: listeners per address must be at most 10"),
            ("--max-halves 100", "--max-halves-per-identity: halves per identity must be at most 100"),
            ("--max-tunnel-ends 512", "--max-tunnel-ends-per-identity: ends of tunnels per identity"),
            ("--max-waiting-calls 100000", "--max-waiting-calls: calls that wait for one node"),
            ("--accept-rate 10", "--accept-rate-per-address: accept rate per address must be at most 10"),
            ("--accept-burst 10", "--accept-burst-per-address: accept burst per address must be at most 10"),
            ("--max-handshakes 10", "--max-handshakes-per-address: handshakes per address must be at most 10"),
            ("--buffer-memory 16 --tunnel-buffer 8192", "--tunnel-buffer: the buffer of a tunnel"),
        ] {
            assert!(wrong(flags).starts_with(says), "{flags}: {}", wrong(flags));
        }
        for flags in [["--max-listeners", "0"], ["--stall-limit", "41"], ["--tunnel-rate", "32767"]] {
            let none = Args::try_parse_from(["relay"].into_iter().chain(flags));
            assert!(none.is_err_and(|error| error.exit_code() == 2), "{flags:?}");
        }
    }
}
