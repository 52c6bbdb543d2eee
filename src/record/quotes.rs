//! Quotes in CSV that are not closed where their cell ends.
//!
//! Readers of CSV take such a quote for the start of a cell that goes on over
//! commas and lines, so that records are lost without a word.

/// What is wrong with such a quote.
pub const OPEN_QUOTE: &str = "a quote is opened that is not closed before a comma or the end of a line";

/// The line, from 1, of a text's first quote that is not closed where its cell
/// ends.
pub fn wrong(text: &str) -> Option<u64> {
    let mut quotes = Quotes::default();
    quotes.see(text.as_bytes());
    quotes.end();
    quotes.wrong()
}

/// Follows the quotes of a CSV text. RFC 4180, section 2: a quote opens at the
/// start of a cell, a quote within is two, and behind the one that closes is a
/// comma or the end of the line.
pub struct Quotes {
    at: At,
    /// The line of the next byte.
    line: u64,
    /// The line on which the last quote was opened.
    opened: u64,
    wrong: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The start of a cell.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote that closes, if no other follows.
    Closed,
}

impl Default for Quotes {
    fn default() -> Quotes {
        Quotes {
            at: At::Start,
            line: 1,
            opened: 1,
            wrong: None,
        }
    }
}

impl Quotes {
    /// Goes on with what comes next, without a byte order mark.
    pub fn see(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::Closed,
                (At::Quoted, _) => At::Quoted,
                (At::Start | At::Closed, b'"') => {
                    if self.at == At::Start {
                        self.opened = self.line;
                    }
                    At::Quoted
                }
                (_, b',' | b'\r' | b'\n') => At::Start,
                (At::Closed, _) => {
                    self.wrong.get_or_insert(self.opened);
                    At::Plain
                }
                _ => At::Plain,
            };
            self.line += u64::from(byte == b'\n');
        }
    }

    /// The text ends here.
    pub fn end(&mut self) {
        if self.at == At::Quoted {
            self.wrong.get_or_insert(self.opened);
        }
    }

    /// The line of the first quote that is not closed where its cell ends.
    pub fn wrong(&self) -> Option<u64> {
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_not_closed_has_its_line() {
        for good in [
            "",
            "a,b\n1,2\n",
            "\"a\",\"\"\n\"b,\n\"\"c\"\r\n",
            "5\" pipe,x\"y\n",
            "\"a\"",
        ] {
            assert_eq!(wrong(good), None, "{good:?}");
        }
        for (line, text) in [
            (1, "\""),
            (1, "\"a\"b,c\n"),
            (2, "a,b\n\"1,2\n3,4\n"),
            // It closes on line 3, before the c.
            (2, "a\n\"b\n\"c\n"),
            (3, "a\nb\n\"c\"\"\n"),
            (1, "\"a\" ,\"b\n"),
        ] {
            assert_eq!(wrong(text), Some(line), "{text:?}");
        }
    }
}
