//! The log: lines on standard error, formatted on the thread that has
//! something to say and written by one that has nothing else to do.

use super::{ConfigError, ServeConfig};
use crate::http::ACCESS_LOG;
use anyhow::Context;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// One line of text each, for people.
    Text,
}

/// How many lines may wait. What comes then is lost and counted: answering
/// goes before writing about it.
const LINES_MAX: usize = 16 << 10;

/// The filter that a configuration asks for.
pub(super) fn filter(config: &ServeConfig) -> Result<EnvFilter, ConfigError> {
    let text = &config.log_filter;
    let filter = EnvFilter::builder()
        .parse(text)
        .map_err(|error| ConfigError(format!("log filter {text:?}: {error}")))?;
    if config.access_log {
        return Ok(filter);
    }
    let off = format!("{ACCESS_LOG}=off")
        .parse()
        .map_err(|error| ConfigError(format!("log filter: {error}")))?;
    Ok(filter.add_directive(off))
}

/// Sends the process's events to standard error until the guard is dropped,
/// which waits for what is still to be written. Where the process has a
/// subscriber already, that one is kept.
pub(super) fn start(config: &ServeConfig) -> anyhow::Result<Guard> {
    let filter = filter(config)?;
    let (messages, received) = sync_channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        messages: messages.clone(),
        lost: Arc::clone(&lost),
    };
    let writer = std::thread::Builder::new()
        .name("modelet-log".into())
        .spawn(move || write_all(&received, &lost, io::stderr()))
        .context("can't start the thread that writes the log")?;
    let guard = Guard {
        messages,
        writer: Some(writer),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(lines);
    let started = match config.log_format {
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => subscriber.compact().try_init(),
    };
    // An error says that the process has a subscriber already.
    drop(started);
    Ok(guard)
}

enum Message {
    Line(Vec<u8>),
    Stop,
}

/// Waits for what is still to be written when it is dropped.
pub(super) struct Guard {
    messages: SyncSender<Message>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.messages.send(Message::Stop).is_ok()
            && let Some(writer) = self.writer.take()
        {
            // There is nobody left to tell that it panicked.
            let _ = writer.join();
        }
    }
}

/// Makes the writer of one event.
struct Lines {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Collects what is said of one event.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: self,
            text: Vec::new(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = Message::Line(std::mem::take(&mut self.text));
        if let Err(TrySendError::Full(_)) = self.lines.messages.try_send(line) {
            self.lines.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines until it is told to stop, together what has come together.
fn write_all(messages: &Receiver<Message>, lost: &AtomicU64, out: impl Write) {
    let mut out = BufWriter::new(out);
    while let Ok(mut message) = messages.recv() {
        loop {
            match message {
                // A log that can't be written is no reason to stop serving.
                Message::Line(line) => drop(out.write_all(&line)),
                Message::Stop => return drop(out.flush()),
            }
            match messages.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(writeln!(out, "{{\"level\":\"WARN\",\"message\":\"the log is too slow\",\"lines_lost\":{lost}}}"));
        }
        drop(out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_whole_and_lost_ones_counted() {
        let (messages, received) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let lines = Lines {
            messages: messages.clone(),
            lost: Arc::clone(&lost),
        };
        for i in 0..3 {
            let mut line = lines.make_writer();
            write!(line, "line ").unwrap();
            writeln!(line, "{i}").unwrap();
        }
        let mut out = Vec::new();
        let written = &mut out;
        std::thread::scope(|scope| {
            scope.spawn(move || write_all(&received, &lost, written));
            // The writer has room again once it has begun.
            messages.send(Message::Line(b"more\n".to_vec())).unwrap();
            messages.send(Message::Stop).unwrap();
        });
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert!(text.contains("more\n"), "{text}");
        assert!(text.contains("\"lines_lost\":1"), "{text}");
    }
}
