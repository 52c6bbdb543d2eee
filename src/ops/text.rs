//! Operators of `ai.onnx` on text: StringNormalizer (version 10), Equal on
//! text (version 19), StringConcat and StringSplit (version 20).

use super::Kernel;
use super::elementwise::Broadcast;
use super::lookup::{ELEMENTS_MAX, find_text};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, StringSlice};
use crate::tensor::{RANK_MAX, Shape, Strings, StringsView, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// A change of case, character by character as C's `towlower` and `towupper`
/// have it: no character becomes several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Case {
    /// None.
    Keep,
    /// To lower case.
    Lower,
    /// To upper case.
    Upper,
    /// To lower case, ASCII letters alone.
    LowerAscii,
    /// To upper case, ASCII letters alone.
    UpperAscii,
}

impl Case {
    fn of(self, c: char) -> char {
        match self {
            Case::Keep => c,
            Case::LowerAscii => c.to_ascii_lowercase(),
            Case::UpperAscii => c.to_ascii_uppercase(),
            // The one character whose full mapping has two is İ.
            Case::Lower => match (c, c.to_lowercase()) {
                ('İ', _) => 'i',
                (_, mut lower) => lower.next().unwrap_or(c),
            },
            Case::Upper => {
                let mut upper = c.to_uppercase();
                match (upper.next(), upper.next(), c as u32) {
                    (Some(one), None, _) => one,
                    // Greek with iota subscript: the single upper case is the
                    // title case.
                    (_, _, code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7)) => {
                        char::from_u32(code + 8).unwrap_or(c)
                    }
                    (_, _, code @ (0x1fb3 | 0x1fc3 | 0x1ff3)) => char::from_u32(code + 9).unwrap_or(c),
                    _ => c,
                }
            }
        }
    }

    /// Writes the text in this case.
    pub fn apply(self, text: &str, out: &mut String) {
        out.clear();
        out.extend(text.chars().map(|c| self.of(c)));
    }
}

/// Stop words dropped, and the case changed.
///
/// Takes text, `[C]` or `[1, C]`; without stop words of any shape. Yields the
/// elements that are left, or one empty text if none is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StringNormalizer {
    /// The case of the results.
    pub case: Case,
    /// The case in which elements are compared with the stop words.
    pub compare: Case,
    /// The stop words in that case, in the order of their bytes.
    pub stop_words: StringSlice,
}

impl Kernel for StringNormalizer {
    const NAME: &'static str = "StringNormalizer";

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        constants.check_strings(self.stop_words, "stop words")
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let Values::String(texts) = x.values else {
            return Err(operands.dtype_error(x.dtype()));
        };
        let stop_words = operands.constants().strings(self.stop_words);
        let filters = !stop_words.is_empty() && !x.shape.is_empty();
        if filters && !matches!(x.shape.dims(), [_] | [1, _]) {
            return Err(operands.shape_error("[C] or [1, C]", x.shape));
        }
        let mut buffer = String::new();
        let result = out[0].write_strings(x.shape);
        for text in texts.iter() {
            if filters {
                self.compare.apply(text, &mut buffer);
                if find_text(stop_words, &buffer).is_ok() {
                    continue;
                }
            }
            match self.case {
                Case::Keep => result.push(text),
                case => {
                    case.apply(text, &mut buffer);
                    result.push(&buffer);
                }
            }
        }
        if filters {
            if result.is_empty() {
                result.push("");
            }
            let left = result.len();
            out[0].shape = match x.shape.rank() {
                1 => Shape::vector(left),
                _ => Shape::matrix(1, left),
            };
        }
        Ok(())
    }
}

/// A function of two operands of text, broadcast as numpy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextPair {
    /// Whether they are the same, as bool.
    Equal,
    /// One after the other.
    Concat,
}

/// The index in an operand of element `at` of the broadcast result.
fn source_index(mut at: usize, result: Shape, operand: Shape) -> usize {
    let (mut index, mut step) = (0, 1);
    for (&dim, &own) in result.dims().iter().rev().zip(operand.dims().iter().rev()) {
        if own != 1 {
            index += at % dim * step;
        }
        at /= dim;
        step *= own;
    }
    index
}

fn texts_of<'a>(operands: &Operands<'_>, x: View<'a>) -> Result<StringsView<'a>, RunError> {
    match x.values {
        Values::String(texts) => Ok(texts),
        _ => Err(operands.dtype_error(x.dtype())),
    }
}

impl Kernel for TextPair {
    const NAME: &'static str = "TextPair";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (a, b) = (operands.view(0)?, operands.view(1)?);
        let (a_texts, b_texts) = (texts_of(operands, a)?, texts_of(operands, b)?);
        let shape = Broadcast::new(a.shape, b.shape)
            .map(|layout| layout.shape)
            .filter(|shape| shape.len() <= ELEMENTS_MAX)
            .ok_or_else(|| operands.shape_error(format!("a shape to broadcast with {:?}", a.shape), b.shape))?;
        let pairs = (0..shape.len()).map(|at| {
            (
                a_texts.get(source_index(at, shape, a.shape)),
                b_texts.get(source_index(at, shape, b.shape)),
            )
        });
        match self {
            TextPair::Equal => out[0].write_bool(shape).extend(pairs.map(|(a, b)| u8::from(a == b))),
            TextPair::Concat => {
                let result = out[0].write_strings(shape);
                let mut buffer = String::new();
                for (a, b) in pairs {
                    buffer.clear();
                    buffer.push_str(a);
                    buffer.push_str(b);
                    result.push(&buffer);
                }
            }
        }
        Ok(())
    }
}

/// Texts cut at a delimiter.
///
/// Takes text of any shape. Yields the pieces, with one more dimension of the
/// largest number of pieces of any element, filled up with empty texts; and
/// the number of pieces of each element, int64, in the shape of the operand.
/// An empty text has no piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StringSplit {
    /// Where to cut; if it is empty, at runs of spaces, and those at the ends
    /// are dropped.
    pub delimiter: String,
    /// The most cuts, from the left.
    pub cuts_max: u64,
}

impl StringSplit {
    fn pieces<'t>(&self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        let mut cuts = 0;
        let mut rest = text;
        if self.delimiter.is_empty() {
            loop {
                rest = rest.trim_matches(' ');
                match rest.find(' ') {
                    Some(at) if cuts < self.cuts_max => {
                        piece(&rest[..at]);
                        rest = &rest[at..];
                        cuts += 1;
                    }
                    _ if rest.is_empty() => return,
                    _ => return piece(rest),
                }
            }
        }
        if text.is_empty() {
            return;
        }
        while let Some((before, after)) = rest.split_once(self.delimiter.as_str())
            && cuts < self.cuts_max
        {
            piece(before);
            rest = after;
            cuts += 1;
        }
        piece(rest);
    }
}

impl Kernel for StringSplit {
    const NAME: &'static str = "StringSplit";
    const OUTPUTS: usize = 2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let texts = texts_of(operands, x)?;
        let (pieces_out, counts_out) = out.split_at_mut(1);
        let counts = counts_out[0].write_i64(x.shape);
        let mut most = 0;
        for text in texts.iter() {
            let mut count = 0;
            self.pieces(text, |_| count += 1);
            counts.push(count as i64);
            most = most.max(count);
        }
        let rank = x.shape.rank();
        let mut dims = [0; RANK_MAX];
        let shape = (rank < RANK_MAX).then(|| {
            dims[..rank].copy_from_slice(x.shape.dims());
            dims[rank] = most;
            Shape::new(&dims[..=rank])
        });
        let shape = shape
            .flatten()
            .filter(|shape| shape.len() <= ELEMENTS_MAX)
            .ok_or_else(|| operands.shape_error("fewer pieces", x.shape))?;
        let result: &mut Strings = pieces_out[0].write_strings(shape);
        for text in texts.iter() {
            let end = result.len() + most;
            self.pieces(text, |piece| result.push(piece));
            while result.len() < end {
                result.push("");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor, texts};
    use crate::tensor::Data;

    #[test]
    fn no_character_becomes_several() {
        for (case, text, expected) in [
            (Case::Lower, "ÀİΣ", "àiσ"),
            (Case::Upper, "straße ŉ ᾳ ǆ", "STRAßE ŉ ᾼ Ǆ"),
            (Case::UpperAscii, "aé", "Aé"),
        ] {
            let mut out = String::new();
            case.apply(text, &mut out);
            assert_eq!(out, expected);
        }
    }

    fn normalize(case: Case, compare: Case, words: &[&str], x: Tensor) -> Result<Tensor, RunError> {
        let op = |b: &mut crate::program::Builder| {
            let stop_words = b.strings(words);
            Op::StringNormalizer(StringNormalizer {
                case,
                compare,
                stop_words,
            })
        };
        apply_made(op, &[x]).map(|mut results| results.remove(0))
    }

    #[test]
    fn stop_words_are_compared_in_their_case_and_the_rest_is_kept_or_changed() {
        let x = texts(&[1, 3], &["Monday", "tuesday", "MONDAY"]);
        let kept = normalize(Case::Keep, Case::Lower, &["monday"], x.clone()).unwrap();
        assert_eq!(kept, texts(&[1, 1], &["tuesday"]));
        let upper = normalize(Case::Upper, Case::Keep, &["MONDAY"], x).unwrap();
        assert_eq!(upper, texts(&[1, 2], &["MONDAY", "TUESDAY"]));
        let none = normalize(Case::Keep, Case::Keep, &["a"], texts(&[2], &["a", "a"])).unwrap();
        assert_eq!(none, texts(&[1], &[""]));
    }

    #[test]
    fn rows_with_stop_words_are_refused_and_without_are_not() {
        let x = texts(&[2, 1], &["A", "b"]);
        let error = normalize(Case::Lower, Case::Lower, &["c"], x.clone());
        assert!(matches!(error, Err(RunError::Shape { .. })));
        let result = normalize(Case::Lower, Case::Lower, &[], x);
        assert_eq!(result.unwrap(), texts(&[2, 1], &["a", "b"]));
    }

    #[test]
    fn pairs_are_broadcast() {
        let (a, b) = (texts(&[2, 1], &["a", "b"]), texts(&[2], &["a", "c"]));
        let equal = apply_made(|_| Op::TextPair(TextPair::Equal), &[a.clone(), b.clone()]).unwrap();
        assert_eq!(equal[0], tensor(&[2, 2], Data::Bool(vec![1, 0, 0, 0])));
        let concat = apply_made(|_| Op::TextPair(TextPair::Concat), &[b, a]).unwrap();
        assert_eq!(concat[0], texts(&[2, 2], &["aa", "ca", "ab", "cb"]));
    }

    #[test]
    fn pieces_are_counted_and_filled_up() {
        let split = |delimiter: &str, cuts_max: u64, x: &[&str]| {
            let op = StringSplit {
                delimiter: delimiter.into(),
                cuts_max,
            };
            apply_made(|_| Op::StringSplit(op), &[texts(&[x.len()], x)]).unwrap()
        };
        let result = split(",", u64::MAX, &["a,,b", ""]);
        assert_eq!(result[0], texts(&[2, 3], &["a", "", "b", "", "", ""]));
        assert_eq!(result[1], tensor(&[2], Data::Int64(vec![3, 0])));
        let result = split("", 1, &["  a  b c ", " "]);
        assert_eq!(result[0], texts(&[2, 2], &["a", "b c", "", ""]));
        assert_eq!(split(",", u64::MAX, &[""])[0], texts(&[1, 0], &[]));
    }
}
