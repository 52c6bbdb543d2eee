//! What the command line writes: to the terminal for people, or as JSON for
//! machines.
//!
//! Answers go to standard output; progress, notes and errors go to standard
//! error, so that an answer can be piped.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// When to write in colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    fn on(self, terminal: bool) -> bool {
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// A colour or weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// Good.
    Green,
    /// Look at it.
    Yellow,
    /// Bad.
    Red,
}

/// Where a command writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color: bool,
    color_err: bool,
    quiet: bool,
    pretty: bool,
}

impl Output {
    /// Looks at the terminal.
    pub fn new(color: ColorChoice, quiet: bool) -> Output {
        let terminal = std::io::stdout().is_terminal();
        Output {
            color: color.on(terminal),
            color_err: color.on(std::io::stderr().is_terminal()),
            quiet,
            pretty: terminal,
        }
    }

    /// Neither colour nor notes, as for a pipe.
    pub fn plain() -> Output {
        Output {
            color: false,
            color_err: false,
            quiet: true,
            pretty: false,
        }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.pretty
    }

    /// Whether only answers are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A text for standard output in a colour, where there is colour.
    pub fn paint(&self, paint: Paint, text: impl AsRef<str>) -> String {
        painted(self.color, paint, text.as_ref())
    }

    /// Writes text to standard output.
    ///
    /// # Errors
    /// When it can't be written, a broken pipe included.
    pub fn print(&self, text: impl AsRef<str>) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.flush()
    }

    /// Writes a value as JSON to standard output: indented on a terminal, else
    /// on one line.
    ///
    /// # Errors
    /// When it can't be written, a broken pipe included.
    pub fn print_json(&self, value: &impl Serialize) -> std::io::Result<()> {
        let mut text = match self.pretty {
            true => serde_json::to_string_pretty(value)?,
            false => serde_json::to_string(value)?,
        };
        text.push('\n');
        self.print(text)
    }

    /// Tells something beside the answer, on standard error, unless quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let label = painted(self.color_err, Paint::Yellow, "note:");
            let _ = writeln!(std::io::stderr(), "{label} {}", text.as_ref());
        }
    }

    /// Tells on standard error how a command went, unless quiet.
    pub fn status(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        }
    }

    /// Tells an error, on standard error.
    pub fn error(&self, text: impl AsRef<str>) {
        let label = painted(self.color_err, Paint::Red, "error:");
        let _ = writeln!(std::io::stderr(), "{label} {}", text.as_ref());
    }

    /// A progress bar on standard error where that is a terminal, else nothing.
    pub fn progress(&self) -> Box<dyn Progress> {
        match self.quiet || !std::io::stderr().is_terminal() {
            true => Box::new(Silent),
            false => Box::new(Bar::default()),
        }
    }
}

fn painted(color: bool, paint: Paint, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Bold => 1,
        Paint::Dim => 2,
        Paint::Green => 32,
        Paint::Yellow => 33,
        Paint::Red => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// What a progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Rows of a table.
    Rows,
    /// Parts of a work.
    Steps,
}

/// Is told how far a long piece of work has come.
pub trait Progress: Send + Sync {
    /// A piece of work begins, which ends the one before; `total` where it is
    /// known.
    fn start(&self, what: &str, total: Option<u64>, unit: Unit);
    /// So much more is done.
    fn advance(&self, by: u64);
    /// What is being done has this to say now.
    fn tell(&self, _what: &str) {}
    /// The work is done.
    fn finish(&self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _what: &str, _total: Option<u64>, _unit: Unit) {}
    fn advance(&self, _by: u64) {}
    fn finish(&self) {}
}

/// A bar on standard error.
#[derive(Debug, Default)]
struct Bar(Mutex<Option<ProgressBar>>);

impl Bar {
    fn set(&self, bar: Option<ProgressBar>) {
        let mut current = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(old) = std::mem::replace(&mut *current, bar) {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn start(&self, what: &str, total: Option<u64>, unit: Unit) {
        let count = match (unit, total.is_some()) {
            (Unit::Bytes, true) => "{bytes} of {total_bytes}, {bytes_per_sec}",
            (Unit::Bytes, false) => "{bytes}, {bytes_per_sec}",
            (Unit::Rows, true) => "{human_pos} of {human_len} rows, {per_sec}",
            (Unit::Rows, false) => "{human_pos} rows, {per_sec}",
            (Unit::Steps, true) => "{pos} of {len}",
            (Unit::Steps, false) => "{elapsed}",
        };
        let template = match total {
            Some(_) => format!("{{msg}} [{{bar:30}}] {count}"),
            None => format!("{{spinner}} {{msg}} {count}"),
        };
        let style = ProgressStyle::with_template(&template)
            .expect("the template is well formed")
            .progress_chars("=> ");
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.set(Some(bar));
    }

    fn advance(&self, by: u64) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            bar.inc(by);
        }
    }

    fn tell(&self, what: &str) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            bar.set_message(what.to_owned());
        }
    }

    fn finish(&self) {
        self.set(None);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

/// JSON on several lines, indented, with its members in the order and its
/// numbers with the digits that they have.
pub fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut chars = json.trim().chars().peekable();
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                in_text = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// How wide a cell is on the terminal: colours take no room.
fn width_of(cell: &str) -> usize {
    let mut parts = cell.split('\x1b');
    let plain = parts.next().map_or(0, UnicodeWidthStr::width);
    let painted = parts.map(|part| part.split_once('m').map_or(0, |(_, text)| text.width()));
    plain + painted.sum::<usize>()
}

/// Lays out rows of cells under a header, two spaces between the columns.
///
/// ```
/// use modelet_host::output::{Align, Output, grid};
///
/// let rows = [vec!["income".to_string(), "3".to_string()]];
/// let text = grid(&Output::plain(), &[("feature", Align::Left), ("count", Align::Right)], &rows);
/// assert_eq!(text, "  feature  count\n  income       3\n");
/// ```
pub fn grid(output: &Output, header: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|(title, _)| title.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.zip(&widths).zip(header) {
            let pad = " ".repeat(width - width_of(cell));
            line.push_str("  ");
            match align {
                Align::Left => line.extend([cell, &pad]),
                Align::Right => line.extend([&pad, cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut text = output.paint(Paint::Dim, line(&mut header.iter().map(|(title, _)| *title)));
    text.push('\n');
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number with its thousands set apart by commas.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub fn count(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {noun}{s}", thousands(count))
}

/// A share in percent, to two places: `12.5 %`.
pub fn percent(share: f64) -> String {
    match (share * 1e4).round() / 1e2 {
        0.0 if share > 0.0 => "< 0.01 %".into(),
        100.0 if share < 1.0 => "> 99.99 %".into(),
        rounded => format!("{rounded} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_all_or_nothing_that_is_not() {
        let shares = [0.0, 1e-9, 0.125, 0.1234567, 0.999999, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "< 0.01 %", "12.5 %", "12.35 %", "> 99.99 %", "100 %"]);
    }

    #[test]
    fn numbers_are_written_for_people() {
        struct Case(u64, &'static str, &'static str, &'static str);
        for Case(number, as_bytes, grouped, counted) in [
            Case(0, "0 B", "0", "0 rows"),
            Case(1, "1 B", "1", "1 row"),
            Case(999, "999 B", "999", "999 rows"),
            Case(1000, "1.0 KB", "1,000", "1,000 rows"),
            Case(999_949, "999.9 KB", "999,949", "999,949 rows"),
            Case(999_950, "1.0 MB", "999,950", "999,950 rows"),
            Case(1_234_567_890, "1.2 GB", "1,234,567,890", "1,234,567,890 rows"),
        ] {
            assert_eq!(bytes(number), as_bytes);
            assert_eq!(thousands(number), grouped);
            assert_eq!(count(number, "row"), counted);
        }
    }

    #[test]
    fn json_is_indented_and_otherwise_left_alone() {
        let json = r#" {"b":[1e400, {}],"a":"x\"{,\\","z":[ ]} "#;
        let expected = "{\n  \"b\": [\n    1e400,\n    {}\n  ],\n  \"a\": \"x\\\"{,\\\\\",\n  \"z\": []\n}";
        assert_eq!(indented(json), expected);
    }

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let rows = [
            vec!["収入".to_string(), "1".to_string()],
            vec!["age".to_string(), "20".to_string()],
        ];
        let text = grid(&Output::plain(), &[("name", Align::Left), ("n", Align::Right)], &rows);
        assert_eq!(text, "  name   n\n  収入   1\n  age   20\n");
    }

    #[test]
    fn there_is_colour_only_where_it_is_wanted() {
        assert_eq!(painted(false, Paint::Red, "x"), "x");
        assert_eq!(painted(true, Paint::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert!(ColorChoice::Always.on(false));
        assert!(!ColorChoice::Never.on(true));
        assert!(!ColorChoice::Auto.on(false));
    }
}
