//! `memcmp` for wasm, by words.
//!
//! Names are compared by it, a few of them in every request. The C library's
//! goes byte by byte there, and a runtime that can be interrupted looks at its
//! clock at each.

/// The bytes at an address as a number, the first one highest: they compare as
/// it does.
macro_rules! load {
    ($type:ty, $at:expr) => {
        <$type>::from_be_bytes(*$at.cast())
    };
}

/// The C library's `memcmp`, which compilers call for the comparison of slices.
///
/// # Safety
/// `len` bytes can be read at both addresses.
// SAFETY: the signature is the C library's, and a definition in the crate takes
// the place of the one in its archive.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: all loads are within `len` bytes.
    unsafe {
        macro_rules! compare {
            ($type:ty, $offset:expr) => {
                let (x, y) = (load!($type, a.add($offset)), load!($type, b.add($offset)));
                if x != y {
                    return if x < y { -1 } else { 1 };
                }
            };
        }
        if len >= 8 {
            let last = len - 8;
            let mut at = 0;
            while at < last {
                compare!(u64, at);
                at += 8;
            }
            // It overlaps the one before, whose bytes are equal.
            compare!(u64, last);
        } else if len >= 4 {
            compare!(u32, 0);
            compare!(u32, len - 4);
        } else if len >= 2 {
            compare!(u16, 0);
            compare!(u16, len - 2);
        } else if len == 1 {
            compare!(u8, 0);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_compare_as_slices_do() {
        let text: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(37).wrapping_add(100)).collect();
        let compare = |a: &[u8], b: &[u8]| {
            // SAFETY: both are so long.
            unsafe { super::memcmp(a.as_ptr(), b.as_ptr(), a.len()) }
        };
        for len in 0..text.len() {
            let text = &text[..len];
            assert_eq!(compare(text, text), 0);
            for at in 0..len {
                for byte in [0, 255, text[at] ^ 1, text[at] ^ 128] {
                    let mut other = text.to_vec();
                    other[at] = byte;
                    let expected = text.cmp(&other) as i32;
                    assert_eq!(compare(text, &other), expected, "{len} bytes, {byte} at {at}");
                }
            }
        }
    }
}
