//! What a server says of its cost: one line of its log, asked for by a signal.

use serde_json::Value;

/// Counters since the start of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Bytes that its sockets received.
    pub(super) bytes_in: u64,
    /// Flushes to the disk.
    pub(super) flushes: u64,
    /// Bytes of records written.
    pub(super) record_bytes: u64,
    /// Pages of its database in use, in bytes; not a difference.
    pub(super) database_bytes: u64,
    /// Seconds of processor time, user and system.
    pub(super) cpu_s: f64,
    /// Bytes that the system wrote to disks for it, whole pages; 0 where the system does not say.
    pub(super) disk_bytes: u64,
}

fn is_cost(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("target")? == "offset::cost").then_some(value)
}

impl Cost {
    /// How often a log tells the cost.
    pub(super) fn lines(log: &str) -> usize {
        log.lines().filter(|line| is_cost(line).is_some()).count()
    }

    /// What a log tells last.
    pub(super) fn last(log: &str) -> Option<Cost> {
        let line = log.lines().rev().find_map(is_cost)?;
        let field = |name: &str| line.get(name).and_then(Value::as_u64);
        Some(Cost {
            bytes_in: field("bytes_in")?,
            flushes: field("flushes")?,
            record_bytes: field("record_bytes")?,
            database_bytes: field("database_bytes")?,
            cpu_s: 0.0,
            disk_bytes: 0,
        })
    }

    /// What came since `earlier`.
    pub(super) fn since(&self, earlier: &Cost) -> Cost {
        Cost {
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            flushes: self.flushes.saturating_sub(earlier.flushes),
            record_bytes: self.record_bytes.saturating_sub(earlier.record_bytes),
            database_bytes: self.database_bytes,
            cpu_s: self.cpu_s - earlier.cpu_s,
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cost_of_a_log_is_read_and_the_rest_passed_over() {
        let log = concat!(
            "not json\n",
            r#"{"target":"other","bytes_in":9}"#,
            "\n",
            r#"{"target":"offset::cost","bytes_in":1,"flushes":2,"record_bytes":3,"database_bytes":4}"#,
            "\n",
            r#"{"target":"offset::cost","bytes_in":11,"flushes":12,"record_bytes":13,"database_bytes":14}"#,
            "\n",
        );
        assert_eq!(Cost::lines(log), 2);
        let last = Cost { bytes_in: 11, flushes: 12, record_bytes: 13, database_bytes: 14, ..Cost::default() };
        assert_eq!(Cost::last(log), Some(last));
        assert_eq!(Cost::last("nothing"), None);
    }
}
