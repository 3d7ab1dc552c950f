//! What connections of a program may hold and take, in one place: defaults, and what makes no sense.

use offset_protocol::machine::Duration;

use crate::connection::{LEAST_BUDGET, PIPE_BYTES, STALL_LIMIT};
use crate::gate::{DoorLimits, DoorLimitsError};

/// The limits of all connections of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// Who is let in.
    pub door: DoorLimits,
    /// A peer that takes less than a KiB a second for this long, while something waits for it, is disconnected.
    pub stall: Duration,
    /// Bytes in all buffers together from which on each connection gets by with a message at a time. At a quarter more, or when
    /// that lasts for as long as a peer may stall, connections are closed: see [`crate::connection::budget`].
    pub memory_bytes: usize,
    /// Bytes that wait in one direction of a tunnel; and one message more.
    pub pipe_bytes: usize,
}

impl Default for NetLimits {
    /// The memory is chosen freely: enough for some hundreds of tunnels whose readers stand still. The service file of a relay
    /// says what that comes to with everything else.
    fn default() -> Self {
        NetLimits { door: DoorLimits::default(), stall: STALL_LIMIT, memory_bytes: 512 << 20, pipe_bytes: PIPE_BYTES }
    }
}

/// Limits that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetLimitsError {
    /// At the door.
    #[error(transparent)]
    Door(#[from] DoorLimitsError),
    /// Too little memory to serve anybody.
    #[error("the memory for buffers must be at least {LEAST_BUDGET} bytes")]
    Memory,
    /// A pipe that takes up the whole memory.
    #[error("the buffer of a tunnel must be at most a quarter of the memory for buffers")]
    Pipe,
}

impl NetLimits {
    /// Whether somebody is served.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn check(&self) -> Result<(), NetLimitsError> {
        self.door.check()?;
        if self.memory_bytes < LEAST_BUDGET {
            return Err(NetLimitsError::Memory);
        }
        if self.pipe_bytes > self.memory_bytes / 4 {
            return Err(NetLimitsError::Pipe);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense_and_what_locks_everybody_out_does_not() {
        let limits = NetLimits::default();
        assert_eq!(limits.check(), Ok(()));
        let small = NetLimits { memory_bytes: LEAST_BUDGET - 1, ..limits };
        assert_eq!(small.check(), Err(NetLimitsError::Memory));
        let wide = NetLimits { pipe_bytes: 1 << 30, ..limits };
        assert_eq!(wide.check(), Err(NetLimitsError::Pipe));
        let mut closed = limits;
        closed.door.handshakes = 0;
        assert!(matches!(closed.check(), Err(NetLimitsError::Door(_))));
    }
}
