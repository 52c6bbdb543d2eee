//! The one sort of what is loaded or run: the standard library's takes several
//! kilobytes for each type and comparison that it is compiled for.

use std::cmp::Ordering;

/// The numbers from 0 to `len`, in the order that `compare` gives them; equal
/// ones ascend.
#[inline(never)]
pub(crate) fn sorted(len: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| compare(a, b));
    order
}
