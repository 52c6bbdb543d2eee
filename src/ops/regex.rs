//! Regular expressions, and `ai.onnx` RegexFullMatch (version 20).
//!
//! An expression is a nondeterministic automaton that the lowering made of the
//! pattern. It is run on all its states at once, so the time is bounded by the
//! length of the text times the number of states whatever the pattern, and the
//! match found is the leftmost and of those the longest, as ONNX Runtime asks
//! of RE2.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// A compiled expression; it starts at its first state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Regex {
    /// The states; they name each other by index.
    pub states: Vec<State>,
}

/// A state of the automaton.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Reads a character of one of these ranges (code points, both ends
    /// belong to it).
    Read(Vec<(u32, u32)>, u16),
    /// Goes on at both.
    Split(u16, u16),
    /// Goes on if this holds at the position.
    Look(Look, u16),
    /// The text read so far matches.
    Match,
}

/// What may be demanded of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// The start of the text.
    Start,
    /// Its end.
    End,
    /// Between an ASCII word character (`[0-9A-Za-z_]`) and something else.
    Boundary,
    /// Anywhere else.
    NoBoundary,
}

impl Look {
    fn holds(self, text: &str, at: usize) -> bool {
        let word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let bytes = text.as_bytes();
        let boundary = || word(at.checked_sub(1).and_then(|i| bytes.get(i))) != word(bytes.get(at));
        match self {
            Look::Start => at == 0,
            Look::End => at == text.len(),
            Look::Boundary => boundary(),
            Look::NoBoundary => !boundary(),
        }
    }
}

impl Regex {
    pub(crate) fn check(&self) -> Result<(), String> {
        let count = self.states.len();
        let known = |&state: &u16| (state as usize) < count;
        let sound = self.states.iter().all(|state| match state {
            State::Read(_, next) | State::Look(_, next) => known(next),
            State::Split(a, b) => known(a) && known(b),
            State::Match => true,
        });
        match sound && (1..=usize::from(u16::MAX)).contains(&count) {
            true => Ok(()),
            false => Err(format!("an expression of {count} states goes on at none of them")),
        }
    }
}

/// Runs an expression on texts, keeping its buffers.
pub(crate) struct Search<'r> {
    states: &'r [State],
    // The states before the next character, each with where its match began,
    // the earliest first.
    current: Vec<(u16, usize)>,
    next: Vec<(u16, usize)>,
    // When each state was last entered.
    entered: Vec<u64>,
    time: u64,
    stack: Vec<u16>,
    best: Option<(usize, usize)>,
}

impl<'r> Search<'r> {
    pub(crate) fn new(regex: &'r Regex) -> Search<'r> {
        Search {
            states: &regex.states,
            current: Vec::new(),
            next: Vec::new(),
            entered: vec![0; regex.states.len()],
            time: 0,
            stack: Vec::new(),
            best: None,
        }
    }

    /// The leftmost longest match in `text` that begins at `from`, a boundary
    /// of characters, or later; with `anchored` only there.
    pub(crate) fn find(&mut self, text: &str, from: usize, anchored: bool) -> Option<(usize, usize)> {
        self.best = None;
        self.next.clear();
        self.time += 1;
        let mut characters = text.get(from..)?.char_indices();
        loop {
            let character = characters.next();
            let at = character.map_or(text.len(), |(offset, _)| from + offset);
            std::mem::swap(&mut self.current, &mut self.next);
            self.next.clear();
            if self.best.is_none() && (at == from || !anchored) {
                let mut current = std::mem::take(&mut self.current);
                self.enter(0, at, text, at, &mut current);
                self.current = current;
            }
            let Some((_, character)) = character else { break };
            if self.current.is_empty() && (self.best.is_some() || anchored) {
                break;
            }
            self.time += 1;
            let current = std::mem::take(&mut self.current);
            let mut next = std::mem::take(&mut self.next);
            for &(state, start) in &current {
                if self.best.is_some_and(|(leftmost, _)| start > leftmost) {
                    break;
                }
                if let Some(State::Read(ranges, to)) = self.states.get(state as usize) {
                    let code = character as u32;
                    if ranges.iter().any(|&(first, last)| (first..=last).contains(&code)) {
                        self.enter(*to, start, text, at + character.len_utf8(), &mut next);
                    }
                }
            }
            (self.current, self.next) = (current, next);
        }
        self.best
    }

    /// Enters a state and those that follow without reading.
    fn enter(&mut self, state: u16, start: usize, text: &str, at: usize, into: &mut Vec<(u16, usize)>) {
        self.stack.push(state);
        while let Some(state) = self.stack.pop() {
            let Some(entered) = self.entered.get_mut(state as usize) else {
                continue;
            };
            // Whoever came first began at least as early.
            if std::mem::replace(entered, self.time) == self.time {
                continue;
            }
            match self.states[state as usize] {
                State::Read(..) => into.push((state, start)),
                State::Split(a, b) => self.stack.extend([b, a]),
                State::Look(look, to) if look.holds(text, at) => self.stack.push(to),
                State::Look(..) => {}
                State::Match => {
                    if self.best.is_none_or(|(leftmost, _)| start <= leftmost) {
                        self.best = Some((start, at));
                    }
                }
            }
        }
    }
}

/// Whether each text matches the expression from its start to its end.
///
/// Takes text of any shape, yields bool in the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegexFullMatch {
    /// The expression.
    pub regex: Regex,
}

impl Kernel for RegexFullMatch {
    const NAME: &'static str = "RegexFullMatch";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        self.regex.check()
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let Values::String(texts) = x.values else {
            return Err(operands.dtype_error(x.dtype()));
        };
        let mut search = Search::new(&self.regex);
        out[0].write_bool(x.shape).extend(
            texts
                .iter()
                .map(|text| u8::from(search.find(text, 0, true).is_some_and(|(_, end)| end == text.len()))),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(ab|a)b*|c` and the like by hand: reads, splits, a match.
    fn regex(states: Vec<State>) -> Regex {
        let regex = Regex { states };
        regex.check().unwrap();
        regex
    }

    fn read(c: char, to: u16) -> State {
        State::Read(vec![(c as u32, c as u32)], to)
    }

    #[test]
    fn the_leftmost_match_wins_and_of_those_the_longest() {
        // a|ab|bcd
        let regex = regex(vec![
            State::Split(1, 2),
            read('a', 8),
            State::Split(3, 5),
            read('a', 4),
            read('b', 8),
            read('b', 6),
            read('c', 7),
            read('d', 8),
            State::Match,
        ]);
        let mut search = Search::new(&regex);
        assert_eq!(search.find("xabcd", 0, false), Some((1, 3)));
        assert_eq!(search.find("xabcd", 2, false), Some((2, 5)));
        assert_eq!(search.find("xabcd", 3, false), None);
        assert_eq!(search.find("éa", 0, false), Some((2, 3)));
        assert_eq!(search.find("xa", 0, true), None);
        assert_eq!(search.find("xa", 3, false), None);
    }

    #[test]
    fn a_loop_that_reads_nothing_ends() {
        // (\b)* then a
        let regex = regex(vec![
            State::Split(1, 2),
            State::Look(Look::Boundary, 0),
            read('a', 3),
            State::Match,
        ]);
        let mut search = Search::new(&regex);
        assert_eq!(search.find("b a", 0, false), Some((2, 3)));
    }

    #[test]
    fn states_that_are_not_there_are_refused() {
        assert!(Regex { states: vec![] }.check().is_err());
        assert!(
            Regex {
                states: vec![State::Split(0, 1)]
            }
            .check()
            .is_err()
        );
    }
}
