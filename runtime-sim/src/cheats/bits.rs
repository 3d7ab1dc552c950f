//! Bytes that mean nothing.

use crate::dice::Dice;

/// Some bytes.
pub(super) fn noise(dice: &mut Dice) -> Vec<u8> {
    let length = dice.between(1, 200);
    (0..length).map(|_| dice.next_u64() as u8).collect()
}

/// As many bytes as an id, a key or a hash has.
pub(super) fn bytes<const N: usize>(dice: &mut Dice) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.fill_with(|| dice.next_u64() as u8);
    bytes
}
