//! Bytes at a place in memory from which a disk can take them past the system's cache.

/// What every disk is content with.
const ALIGNMENT: usize = 4_096;

/// A buffer that is used again and again.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    bytes: Vec<u8>,
}

impl Aligned {
    /// `length` zeros.
    pub(super) fn zeros(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < length + ALIGNMENT {
            self.bytes.resize(length + ALIGNMENT, 0);
        }
        let start = self.bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        let bytes = &mut self.bytes[start..start + length];
        bytes.fill(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_at_a_whole_page_and_is_zero_whatever_it_was_used_for() {
        let mut buffer = Aligned::default();
        for length in [512, 100_000, 4_096, 1_000_000, 512] {
            let bytes = buffer.zeros(length);
            assert_eq!((bytes.as_ptr().addr() % 4_096, bytes.len()), (0, length));
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
        }
    }
}
