//! The operating system's randomness: one seed per process, from which everything else is forked.

use offset_protocol::machine::Seed;

/// The system has no randomness to give; nothing can be done without.
#[derive(Debug, thiserror::Error)]
#[error("cannot get randomness from the operating system: {0}")]
pub struct NoEntropy(getrandom::Error);

/// A fresh seed. A program draws one, at start.
///
/// # Errors
/// [`NoEntropy`] if the system refuses.
pub fn seed() -> Result<Seed, NoEntropy> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(NoEntropy)?;
    Ok(Seed::new(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap().rng().bytes::<32>(), seed().unwrap().rng().bytes::<32>());
    }
}
