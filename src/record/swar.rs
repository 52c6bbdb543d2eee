//! Eight bytes at a time in a 64-bit word, by the zero-byte trick of H. S.
//! Warren, "Hacker's Delight", 6-1.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// Marks bytes below a limit of at most 128 by their highest bit. Those after
/// the first one marked may be marked without being below: borrows spread
/// upwards.
#[inline(always)]
pub(super) fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH
}

/// Marks bytes that are this one; with the caveat of [`below`].
#[inline(always)]
pub(super) fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Where the first byte from `start` on lies that is one of these, or the end
/// of the bytes, which `start` may be at most. `marks` gives for eight bytes, the first one lowest, a mark at
/// all that are and perhaps at others.
#[inline(always)]
pub(super) fn find(bytes: &[u8], start: usize, marks: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let mut at = start;
    loop {
        if let Some(chunk) = bytes[at..].first_chunk() {
            let marks = marks(u64::from_le_bytes(*chunk));
            if marks == 0 {
                at += 8;
                continue;
            }
            at += (marks.trailing_zeros() / 8) as usize;
        }
        match bytes.get(at) {
            Some(&byte) if !is(byte) => at += 1,
            _ => return at,
        }
    }
}
