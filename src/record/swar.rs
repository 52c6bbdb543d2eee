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

/// The decimal digits from `start` on as a number, and how many they are: up to
/// seven. None if there are more, or fewer than eight bytes to look at.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*bytes.get(start..)?.first_chunk()?);
    let values = word ^ (ONES * u64::from(b'0'));
    // What is above 9 gets a bit in its upper half. A carry reaches only bytes
    // after one that is no digit.
    let others = (values.wrapping_add(ONES * 6) | values) & (ONES * 0xf0);
    if others == 0 {
        return None;
    }
    let count = (others.trailing_zeros() / 8) as usize;
    // The last digit in the highest byte, zeros before the first one.
    let digits = (values << (56 - 8 * count)) << 8;
    // Pairs, then fours and all eight at once: D. Lemire, "Number parsing at a
    // gigabyte per second" (2021).
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    const PAIRS: u64 = 0xff_0000_00ff;
    let high = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    Some((high.wrapping_add(low) >> 32, count))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_up_to_the_first_other_byte() {
        for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            for count in 0..=7 {
                for digit in b'0'..=b'9' {
                    let mut bytes = vec![digit; count];
                    let expected = bytes.iter().fold(0, |value, _| value * 10 + u64::from(digit - b'0'));
                    bytes.push(other);
                    bytes.extend(b"98765432");
                    assert_eq!(digits(&bytes, 0), Some((expected, count)), "{other:#x}");
                }
            }
        }
        assert_eq!(digits(b"1234567,", 0), Some((1_234_567, 7)));
        assert_eq!(digits(b"x1234567,", 1), Some((1_234_567, 7)));
        assert_eq!(digits(b"12345678,", 0), None);
        assert_eq!(digits(b"123,", 0), None);
        assert_eq!(digits(b"", 3), None);
    }
}
