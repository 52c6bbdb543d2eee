//! Deterministic damage: the same seed damages the same bytes in the same way.

use std::ops::Range;

/// The largest case in bytes.
pub const BYTES_MAX: usize = 256 << 10;

/// Integers at which code that computes with sizes goes wrong.
pub const NUMBERS: [i64; 24] = [
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    -1,
    -2,
    -7,
    127,
    128,
    255,
    256,
    1000,
    65_535,
    65_536,
    1 << 28,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 40,
    i64::MAX,
    i64::MIN,
];

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// The numbers that belong to this seed and this case.
    pub fn new(seed: u64, case: u64) -> Random {
        let mut random = Random(seed);
        random.0 = random.next() ^ case.wrapping_mul(0xd6e8_feb8_6659_fd93);
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these, of which there is at least one.
    pub fn of<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    /// A few: 1 or 2 as a rule, seldom more than 6.
    pub fn few(&mut self) -> usize {
        let mut few = 1;
        while few < 12 && self.once_in(2) {
            few += 1;
        }
        few
    }

    /// A piece of `len` bytes, short as a rule.
    fn piece(&mut self, len: usize) -> Range<usize> {
        let start = self.below(len + 1);
        let most = if self.once_in(4) {
            len - start
        } else {
            (len - start).min(16)
        };
        start..start + self.below(most + 1)
    }
}

/// Damages the bytes here and there. `other` is spliced in; `words` are what a
/// parser of this kind of input looks for.
pub fn damage(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    for _ in 0..random.few() {
        damage_once(bytes, other, words, random);
        bytes.truncate(BYTES_MAX);
    }
}

fn damage_once(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(if words.is_empty() { 12 } else { 15 }) {
        _ if bytes.is_empty() => bytes.extend_from_slice(other),
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 => bytes[at] = bytes[at].wrapping_add(*random.of(&[1, 2, 0xff, 0xfe, 0x80, 16])),
        4 => bytes[at] = *random.of(&NUMBERS) as u8,
        5 if random.once_in(3) => bytes.truncate(at),
        5 | 6 => drop(bytes.drain(random.piece(bytes.len()))),
        7 => {
            let piece = bytes[random.piece(bytes.len())].to_vec();
            let times = if random.once_in(8) { 500 } else { random.few() };
            let piece = piece.repeat(times.min(BYTES_MAX / piece.len().max(1)));
            insert(bytes, at, &piece);
        }
        8 => {
            let piece = &other[random.piece(other.len())];
            insert(bytes, at, piece);
        }
        9 if random.once_in(4) => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        9 => {
            let piece = &other[random.piece(other.len().min(bytes.len() - at))];
            bytes[at..at + piece.len()].copy_from_slice(piece);
        }
        // A length, index or dimension as a varint of protobuf or postcard.
        10 => {
            let mut varint = Vec::new();
            let mut number = *random.of(&NUMBERS) as u64;
            while number > 0x7f {
                varint.push(number as u8 | 0x80);
                number >>= 7;
            }
            varint.push(number as u8);
            bytes[at] = varint[0];
            insert(bytes, at + 1, &varint[1..]);
        }
        11 => {
            let number = random.of(&NUMBERS).to_le_bytes();
            let len = *random.of(&[2, 4, 8]);
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        12 => {
            let word = *random.of(words);
            let end = bytes.len().min(at + word.len());
            bytes.splice(at..end, word.iter().copied());
        }
        _ => insert(bytes, at, words[random.below(words.len())]),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
