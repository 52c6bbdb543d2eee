//! `com.microsoft` Tokenizer, version 1, as ONNX Runtime has it.

use super::Kernel;
use super::lookup::ELEMENTS_MAX;
use super::regex::{Regex, Search};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Texts cut into tokens.
///
/// Takes text, `[C]` or `[N, C]`. Yields text with one more dimension, of the
/// largest number of tokens (and marks) of any element; if there are none at
/// all it is 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokenizer {
    /// Where to cut.
    pub tokens: Tokens,
    /// Whether U+0002 precedes an element's tokens and U+0003 follows them.
    pub mark: bool,
    /// What fills up elements with fewer tokens.
    pub pad: String,
    /// Tokens with fewer characters are dropped.
    pub characters_min: u32,
}

/// What is a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Tokens {
    /// Every character.
    Characters,
    /// What is left between matches of the first, then of the second, ….
    Between(Vec<Regex>),
    /// A match.
    Matches(Regex),
}

/// The tokens of the texts seen so far, as ranges of bytes.
type Ranges = Vec<Range<usize>>;

fn character(text: &str, at: usize) -> usize {
    text.get(at..)
        .and_then(|rest| rest.chars().next())
        .map_or(1, char::len_utf8)
}

impl Tokenizer {
    fn long_enough(&self, token: &str) -> bool {
        token.chars().count() >= self.characters_min as usize
    }

    /// Every match that is long enough; after one that is not, the search goes
    /// on one character further.
    fn matches(&self, search: &mut Search<'_>, text: &str, ranges: &mut Ranges) {
        if !self.long_enough(text) {
            return;
        }
        let mut from = 0;
        while let Some((start, end)) = search.find(text, from, false) {
            if self.long_enough(&text[start..end]) && end > start {
                ranges.push(start..end);
                from = end;
            } else {
                from = start + character(text, start);
            }
        }
    }

    /// What lies between the matches in `text[piece]`, which is searched as a
    /// text of its own.
    fn between(&self, search: &mut Search<'_>, text: &str, piece: Range<usize>, ranges: &mut Ranges) {
        let (base, text) = (piece.start, &text[piece]);
        let mut keep = |start: usize, end: usize| {
            if self.long_enough(&text[start..end]) && end > start {
                ranges.push(base + start..base + end);
            }
        };
        let mut from = 0;
        while let Some((start, end)) = search.find(text, from, false) {
            keep(from, start);
            from = if end > start {
                end
            } else {
                start + character(text, start)
            };
        }
        if from <= text.len() {
            keep(from, text.len());
        }
    }
}

impl Kernel for Tokenizer {
    const NAME: &'static str = "Tokenizer";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        match &self.tokens {
            Tokens::Characters => Ok(()),
            Tokens::Between(separators) => separators.iter().try_for_each(Regex::check),
            Tokens::Matches(regex) => regex.check(),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let Values::String(texts) = x.values else {
            return Err(operands.dtype_error(x.dtype()));
        };
        let rank = x.shape.rank();
        if !(1..=2).contains(&rank) {
            return Err(operands.shape_error("[C] or [N, C]", x.shape));
        }
        if x.shape.is_empty() {
            let dims = x.shape.dims();
            let shape = if rank == 2 {
                Shape::matrix(dims[0], 0)
            } else {
                Shape::vector(0)
            };
            out[0].write_strings(shape);
            return Ok(());
        }
        let mut searches: Vec<Search<'_>> = match &self.tokens {
            Tokens::Characters => Vec::new(),
            Tokens::Between(separators) => separators.iter().map(Search::new).collect(),
            Tokens::Matches(regex) => vec![Search::new(regex)],
        };
        let mut ranges = Ranges::new();
        let mut ends = Vec::with_capacity(texts.len());
        let (mut pieces, mut cut) = (Ranges::new(), Ranges::new());
        let mut most = 0;
        for text in texts.iter() {
            let before = ranges.len();
            match &self.tokens {
                Tokens::Characters => {
                    ranges.extend(text.char_indices().map(|(at, c)| at..at + c.len_utf8()));
                }
                Tokens::Matches(_) => self.matches(&mut searches[0], text, &mut ranges),
                Tokens::Between(_) => {
                    pieces.clear();
                    pieces.push(0..text.len());
                    for search in &mut searches {
                        cut.clear();
                        for piece in pieces.drain(..) {
                            self.between(search, text, piece, &mut cut);
                        }
                        std::mem::swap(&mut pieces, &mut cut);
                    }
                    ranges.append(&mut pieces);
                }
            }
            most = most.max(ranges.len() - before);
            ends.push(ranges.len());
        }
        let marks = if self.mark && most > 0 { 2 } else { 0 };
        let mut dims = [0; RANK_MAX];
        dims[..rank].copy_from_slice(x.shape.dims());
        dims[rank] = most + marks;
        let shape = Shape::new(&dims[..=rank])
            .filter(|shape| shape.len() <= ELEMENTS_MAX)
            .ok_or_else(|| operands.shape_error("fewer tokens", x.shape))?;
        let out = out[0].write_strings(shape);
        if most == 0 {
            return Ok(());
        }
        let mut start = 0;
        for (text, end) in texts.iter().zip(ends) {
            if self.mark {
                out.push("\u{2}");
            }
            for range in &ranges[start..end] {
                out.push(&text[range.clone()]);
            }
            if self.mark {
                out.push("\u{3}");
            }
            for _ in end - start..most {
                out.push(&self.pad);
            }
            start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::regex::State;
    use crate::ops::testing::{apply_made, texts};

    fn one_of(characters: &str) -> Regex {
        let ranges = characters.chars().map(|c| (c as u32, c as u32)).collect();
        Regex {
            states: vec![State::Read(ranges, 1), State::Match],
        }
    }

    /// `[ab]+`
    fn run_of_ab() -> Regex {
        Regex {
            states: vec![State::Read(vec![(97, 98)], 1), State::Split(0, 2), State::Match],
        }
    }

    fn tokenize(tokens: Tokens, mark: bool, characters_min: u32, x: &Tensor) -> Tensor {
        let op = Tokenizer {
            tokens,
            mark,
            pad: "#".into(),
            characters_min,
        };
        apply_made(|_| Op::Tokenizer(op), std::slice::from_ref(x))
            .unwrap()
            .remove(0)
    }

    #[test]
    fn marks_enclose_the_tokens_and_padding_follows() {
        let x = texts(&[2], &["aé", "b"]);
        let expected = texts(&[2, 4], &["\u{2}", "a", "é", "\u{3}", "\u{2}", "b", "\u{3}", "#"]);
        assert_eq!(tokenize(Tokens::Characters, true, 1, &x), expected);
        let empty = texts(&[1, 1], &[""]);
        assert_eq!(tokenize(Tokens::Characters, true, 1, &empty), texts(&[1, 1, 0], &[]));
    }

    #[test]
    fn separators_cut_one_after_the_other_and_short_pieces_are_dropped() {
        let x = texts(&[1, 2], &["ab, c,de f", ",,"]);
        let separators = Tokens::Between(vec![one_of(","), one_of(" ")]);
        let expected = texts(&[1, 2, 2], &["ab", "de", "#", "#"]);
        assert_eq!(tokenize(separators, false, 2, &x), expected);
    }

    #[test]
    fn tokens_are_the_longest_matches() {
        let x = texts(&[1], &["abcba_a"]);
        let all = texts(&[1, 3], &["ab", "ba", "a"]);
        assert_eq!(tokenize(Tokens::Matches(run_of_ab()), false, 1, &x), all);
        let long = texts(&[1, 2], &["ab", "ba"]);
        assert_eq!(tokenize(Tokens::Matches(run_of_ab()), false, 2, &x), long);
    }

    #[test]
    fn an_expression_that_matches_nothing_at_all_makes_progress() {
        let nothing = Regex {
            states: vec![State::Match],
        };
        let x = texts(&[1], &["ab"]);
        assert_eq!(
            tokenize(Tokens::Matches(nothing.clone()), false, 1, &x),
            texts(&[1, 0], &[])
        );
        assert_eq!(
            tokenize(Tokens::Between(vec![nothing]), false, 1, &x),
            texts(&[1, 0], &[])
        );
    }
}
