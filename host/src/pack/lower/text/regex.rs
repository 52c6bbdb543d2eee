//! Patterns of regular expressions in RE2's syntax, compiled.
//!
//! Of the syntax this is what is regular and knows no other flags than the
//! defaults: characters and their classes, groups, alternatives, repetitions,
//! `^`, `$`, `\A`, `\z`, `\b` and `\B`. Unicode's properties and flags such as
//! `(?i)` are not supported. What is repeated lazily is repeated nonetheless,
//! for the longest match is wanted.

use modelet::ops::regex::{Look, Regex, State};

/// The most states of an expression.
const STATES_MAX: usize = 10_000;
/// The most groups within one another.
const DEPTH_MAX: usize = 100;
const LAST: u32 = char::MAX as u32;

/// Ranges of code points, both ends included.
type Ranges = Vec<(u32, u32)>;

enum Piece {
    Read(Ranges),
    Look(Look),
    Sequence(Vec<Piece>),
    OneOf(Vec<Piece>),
    Repeat(Box<Piece>, u32, Option<u32>),
}

/// Compiles a pattern.
///
/// # Errors
/// In words, when it is not one of those that are supported.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let mut parser = Parser {
        rest: pattern,
        depth: 0,
    };
    let piece = parser.alternatives()?;
    if !parser.rest.is_empty() {
        return Err("a group is closed that is not open".into());
    }
    let mut states = vec![State::Match; 2];
    let start = emit(&piece, 1, &mut states)?;
    // The first state is where an expression starts.
    states[0] = State::Split(start, start);
    Ok(Regex { states })
}

/// Appends the states of a piece that goes on at `next`; answers the first.
fn emit(piece: &Piece, next: u16, states: &mut Vec<State>) -> Result<u16, String> {
    let push = |state: State, states: &mut Vec<State>| match states.len() < STATES_MAX {
        true => {
            states.push(state);
            Ok((states.len() - 1) as u16)
        }
        false => Err("it is too large".to_string()),
    };
    match piece {
        Piece::Read(ranges) => push(State::Read(ranges.clone(), next), states),
        Piece::Look(look) => push(State::Look(*look, next), states),
        Piece::Sequence(pieces) => pieces
            .iter()
            .rev()
            .try_fold(next, |next, piece| emit(piece, next, states)),
        Piece::OneOf(pieces) => {
            let mut first = None;
            for piece in pieces.iter().rev() {
                let start = emit(piece, next, states)?;
                first = Some(match first {
                    None => start,
                    Some(other) => push(State::Split(start, other), states)?,
                });
            }
            Ok(first.unwrap_or(next))
        }
        Piece::Repeat(piece, min, max) => {
            let mut first = next;
            match max {
                None => {
                    first = push(State::Split(next, next), states)?;
                    let start = emit(piece, first, states)?;
                    states[first as usize] = State::Split(start, next);
                }
                Some(max) => {
                    for _ in *min..*max {
                        let start = emit(piece, first, states)?;
                        first = push(State::Split(start, next), states)?;
                    }
                }
            }
            (0..*min).try_fold(first, |next, _| emit(piece, next, states))
        }
    }
}

struct Parser<'p> {
    rest: &'p str,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn alternatives(&mut self) -> Result<Piece, String> {
        let mut pieces = vec![self.sequence()?];
        while self.skip("|") {
            pieces.push(self.sequence()?);
        }
        Ok(match pieces.len() {
            1 => pieces.remove(0),
            _ => Piece::OneOf(pieces),
        })
    }

    fn sequence(&mut self) -> Result<Piece, String> {
        let mut pieces = Vec::new();
        while let Some(c) = self.peek()
            && c != '|'
            && c != ')'
        {
            let piece = self.atom()?;
            pieces.push(self.repeated(piece)?);
        }
        Ok(Piece::Sequence(pieces))
    }

    fn repeated(&mut self, piece: Piece) -> Result<Piece, String> {
        let Some((min, max)) = self.count()? else {
            return Ok(piece);
        };
        self.skip("?");
        match self.count()? {
            None => Ok(Piece::Repeat(Box::new(piece), min, max)),
            Some(_) => Err("a repetition is repeated".into()),
        }
    }

    /// How often what precedes is repeated, if that is said.
    fn count(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        for (sign, min, max) in [("*", 0, None), ("+", 1, None), ("?", 0, Some(1))] {
            if self.skip(sign) {
                return Ok(Some((min, max)));
            }
        }
        let Some((inner, rest)) = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Ok(None);
        };
        let (min, max) = match inner.split_once(',') {
            None => (inner, Some(inner)),
            Some((min, "")) => (min, None),
            Some((min, max)) => (min, Some(max)),
        };
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<u32>().ok(),
            false => None,
        };
        let (Some(min), max, max_given) = (number(min), max.and_then(number), max.is_some()) else {
            // Braces that hold no count are characters.
            return Ok(None);
        };
        if max_given && max.is_none() {
            return Ok(None);
        }
        if min > 1000 || max.is_some_and(|max| max > 1000 || max < min) {
            return Err(format!("the repetition {{{inner}}}"));
        }
        self.rest = rest;
        Ok(Some((min, max)))
    }

    fn atom(&mut self) -> Result<Piece, String> {
        let Some(c) = self.take() else {
            return Err("it ends early".into());
        };
        Ok(match c {
            '(' => return self.group(),
            '[' => Piece::Read(self.class()?),
            '.' => Piece::Read(negated(vec![(10, 10)])),
            '^' => Piece::Look(Look::Start),
            '$' => Piece::Look(Look::End),
            '*' | '+' | '?' => return Err(format!("{c} repeats nothing")),
            '\\' => match self.peek() {
                Some('b') => self.look(Look::Boundary),
                Some('B') => self.look(Look::NoBoundary),
                Some('A') => self.look(Look::Start),
                Some('z') => self.look(Look::End),
                _ => Piece::Read(self.escape()?),
            },
            c => Piece::Read(vec![(c as u32, c as u32)]),
        })
    }

    fn look(&mut self, look: Look) -> Piece {
        self.take();
        Piece::Look(look)
    }

    fn group(&mut self) -> Result<Piece, String> {
        if self.skip("?P<") || self.rest.starts_with("?<") && self.skip("?<") {
            let (name, rest) = self.rest.split_once('>').ok_or("a group's name does not end")?;
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(format!("a group named {name:?}"));
            }
            self.rest = rest;
        } else if !self.skip("?:") && self.rest.starts_with('?') {
            return Err("flags are not supported".into());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too many groups within one another".into());
        }
        let piece = self.alternatives()?;
        self.depth -= 1;
        match self.skip(")") {
            true => Ok(piece),
            false => Err("a group is not closed".into()),
        }
    }

    /// What follows a backslash, as the characters it stands for.
    fn escape(&mut self) -> Result<Ranges, String> {
        let Some(c) = self.take() else {
            return Err("it ends with a backslash".into());
        };
        let one = |c: u32| vec![(c, c)];
        Ok(match c {
            'd' => digits(),
            'D' => negated(digits()),
            's' => spaces(),
            'S' => negated(spaces()),
            'w' => words(),
            'W' => negated(words()),
            'a' => one(7),
            'f' => one(12),
            't' => one(9),
            'n' => one(10),
            'r' => one(13),
            'v' => one(11),
            'x' => {
                let digits = if self.skip("{") {
                    let (digits, rest) = self.rest.split_once('}').ok_or("\\x{ does not end")?;
                    self.rest = rest;
                    digits
                } else {
                    let digits = self.rest.get(..2).ok_or("\\x ends early")?;
                    self.rest = &self.rest[2..];
                    digits
                };
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                one(code.ok_or_else(|| format!("\\x{digits}"))? as u32)
            }
            c if c.is_ascii_punctuation() || c == ' ' => one(c as u32),
            c => return Err(format!("\\{c} is not supported")),
        })
    }

    /// A class, of which the opening bracket is taken.
    fn class(&mut self) -> Result<Ranges, String> {
        let negative = self.skip("^");
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            if self.rest.starts_with("[:") {
                ranges.extend(self.named_class()?);
                first = false;
                continue;
            }
            let Some(c) = self.take() else {
                return Err("a class is not closed".into());
            };
            if c == ']' && !first {
                break;
            }
            first = false;
            let low = match c {
                '\\' => self.escape()?,
                c => vec![(c as u32, c as u32)],
            };
            // A hyphen is a range's unless it is the last or follows a class.
            match low[..] {
                [(low, high)] if low == high && self.rest.starts_with('-') && !self.rest.starts_with("-]") => {
                    self.take();
                    let high = match self.take() {
                        Some('\\') => self.escape()?,
                        Some(c) => vec![(c as u32, c as u32)],
                        None => return Err("a class is not closed".into()),
                    };
                    match high[..] {
                        [(high, last)] if high == last && low <= high => ranges.push((low, high)),
                        _ => return Err("a range of characters ends before it begins".into()),
                    }
                }
                _ => ranges.extend(low),
            }
        }
        let ranges = merged(ranges);
        Ok(if negative { negated(ranges) } else { ranges })
    }

    fn named_class(&mut self) -> Result<Ranges, String> {
        let (name, rest) = self.rest[2..].split_once(":]").ok_or("a class is not closed")?;
        self.rest = rest;
        let (negative, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let member: fn(&u8) -> bool = match name {
            "alnum" => u8::is_ascii_alphanumeric,
            "alpha" => u8::is_ascii_alphabetic,
            "ascii" => u8::is_ascii,
            "blank" => |b| matches!(b, b' ' | b'\t'),
            "cntrl" => u8::is_ascii_control,
            "digit" => u8::is_ascii_digit,
            "graph" => u8::is_ascii_graphic,
            "lower" => u8::is_ascii_lowercase,
            "print" => |b| (32..127).contains(b),
            "punct" => u8::is_ascii_punctuation,
            "space" => |b| matches!(b, 9..=13 | 32),
            "upper" => u8::is_ascii_uppercase,
            "word" => |b| b.is_ascii_alphanumeric() || *b == b'_',
            "xdigit" => u8::is_ascii_hexdigit,
            _ => return Err(format!("a class named {name:?}")),
        };
        let ranges = merged(
            (0..128u8)
                .filter(member)
                .map(|b| (u32::from(b), u32::from(b)))
                .collect(),
        );
        Ok(if negative { negated(ranges) } else { ranges })
    }
}

fn digits() -> Ranges {
    vec![(48, 57)]
}

fn spaces() -> Ranges {
    vec![(9, 10), (12, 13), (32, 32)]
}

fn words() -> Ranges {
    vec![(48, 57), (65, 90), (95, 95), (97, 122)]
}

/// The ranges in ascending order, none touching another.
fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some((_, last)) if low <= *last + 1 => *last = high.max(*last),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// All other characters than those of ascending ranges.
fn negated(ranges: Ranges) -> Ranges {
    let mut others = Vec::new();
    let mut low = 0;
    for (first, last) in ranges {
        if low < first {
            others.push((low, first - 1));
        }
        low = last + 1;
    }
    if low <= LAST {
        others.push((low, LAST));
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelet::engine::Workspace;
    use modelet::ops::Op;
    use modelet::ops::regex::RegexFullMatch;
    use modelet::program::{Builder, Image, Program, Source};
    use modelet::tensor::{Data, Shape, Strings, Tensor};

    fn full_match(pattern: &str, text: &str) -> bool {
        let regex = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let mut builder = Builder::new(1);
        let outputs = builder.push(Op::RegexFullMatch(RegexFullMatch { regex }), vec![Source::Input(0)]);
        let image = builder.finish(outputs);
        let program = Program::load(Image::from(image)).unwrap();
        let mut strings = Strings::default();
        strings.push(text);
        let x = [Tensor {
            shape: Shape::vector(1),
            data: Data::String(strings),
        }];
        let mut workspace = Workspace::default();
        workspace.run(&program, &x).unwrap();
        workspace.output(&program, &x, 0).unwrap().number(0) == Some(1.0)
    }

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, yes, no) in [
            ("[a-zA-Z0-9_]+", "Ab_9", "a-b"),
            (r"\w\w+", "ab", "a"),
            ("a|bc*|", "bcc", "ac"),
            ("(?:ab){2,3}", "ababab", "ab"),
            ("(?P<x>a){,2}", "a{,2}", "aa"),
            ("a{2}", "aa", "aaa"),
            ("a{1,}?b", "aab", "b"),
            (r"[^\d\s]", "é", "1"),
            ("[]a-]+", "a-]", "b"),
            ("[[:alpha:]_]*", "a_", "1"),
            (r"\x41\.\x{e9}", "A.é", "AxE"),
            (
                r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)",
                "a.b@gmail.com",
                "a@b.com",
            ),
            (r"a\b.\b\w\Bc", "a bc", "abbc"),
            (".", "é", "\n"),
            ("", "", "a"),
            ("((a*)*)*b", "aab", "aac"),
        ] {
            assert!(full_match(pattern, yes), "{pattern} {yes}");
            assert!(!full_match(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for pattern in [
            "(",
            ")",
            "a**",
            "*",
            "[a",
            "[b-a]",
            r"\pL",
            "(?i)a",
            r"\",
            "a{2,1}",
            "(a{1000}){1000}",
            r"\1",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
