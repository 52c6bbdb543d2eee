//! The log: lines on standard error, formatted on the thread that has
//! something to say and written by one that has nothing else to do.
//!
//! The JSON of `tracing-subscriber` costs as much as answering a request, and
//! so does waking a writer for every line. Here a line is put together in a
//! buffer that its thread keeps, and the writer takes what has come together.

use super::{ConfigError, ServeConfig};
use crate::http::ACCESS_LOG;
use anyhow::Context;
use modelet::api::json;
use std::cell::RefCell;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// One line of text each, for people.
    Text,
}

/// How much may wait to be written. What comes then is lost and counted:
/// answering goes before writing about it.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// How long the writer lets lines come together.
const GATHER_TIME: Duration = Duration::from_millis(20);

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
    let lines = Lines::default();
    let writer = std::thread::Builder::new()
        .name("modelet-log".into())
        .spawn({
            let lines = lines.clone();
            move || lines.write_all(io::stderr())
        })
        .context("can't start the thread that writes the log")?;
    let guard = Guard {
        lines: lines.clone(),
        writer: Some(writer),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.log_format {
        LogFormat::Json => registry.with(Json { lines }).try_init(),
        LogFormat::Text => {
            let text = tracing_subscriber::fmt::layer().compact().with_ansi(false);
            registry.with(text.with_writer(lines)).try_init()
        }
    };
    // An error says that the process has a subscriber already.
    drop(started);
    Ok(guard)
}

/// Waits for what is still to be written when it is dropped.
pub(super) struct Guard {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lines.waiting().stop = true;
        self.lines.0.ready.notify_one();
        if let Some(writer) = self.writer.take() {
            // There is nobody left to tell that it panicked.
            let _ = writer.join();
        }
    }
}

/// Lines on their way to the writer.
#[derive(Clone, Default)]
struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    stop: bool,
}

impl Lines {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Bytes and counts are whole at every moment.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.ready.notify_one();
        }
    }

    /// Writes lines until it is told to stop.
    fn write_all(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let mut waiting = self.waiting();
            while waiting.bytes.is_empty() && !waiting.stop {
                waiting = self.0.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if !waiting.stop {
                drop(waiting);
                std::thread::sleep(GATHER_TIME);
                waiting = self.waiting();
            }
            mem::swap(&mut waiting.bytes, &mut taken);
            let lost = mem::take(&mut waiting.lost);
            let stop = waiting.stop;
            drop(waiting);
            // A log that can't be written is no reason to stop serving.
            let _ = out.write_all(&taken);
            taken.clear();
            if lost > 0 {
                let _ = writeln!(
                    out,
                    "{{\"level\":\"WARN\",\"message\":\"the log is too slow\",\"lines_lost\":{lost}}}"
                );
            }
            let _ = out.flush();
            if stop {
                return;
            }
        }
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter(self.clone())
    }
}

/// Takes one event's text, which comes in one piece.
struct LineWriter(Lines);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an event as one JSON object: timestamp, level, target and what it
/// says.
struct Json {
    lines: Lines,
}

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        // A value that logs while it is written has a line of its own.
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => {
                line.clear();
                write_event(&mut line, event);
                self.lines.push(&line);
            }
            Err(_) => {
                let mut line = Vec::new();
                write_event(&mut line, event);
                self.lines.push(&line);
            }
        });
    }
}

fn write_event(line: &mut Vec<u8>, event: &Event<'_>) {
    let mut time = String::with_capacity(32);
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let metadata = event.metadata();
    let mut members = Members(line);
    members.0.extend_from_slice(b"{\"timestamp\":\"");
    members.0.extend_from_slice(time.as_bytes());
    members.0.extend_from_slice(b"\",\"level\":\"");
    members.0.extend_from_slice(metadata.level().as_str().as_bytes());
    members.0.extend_from_slice(b"\",\"target\":");
    json::text(members.0, metadata.target());
    event.record(&mut members);
    members.0.extend_from_slice(b"}\n");
}

/// Appends an event's fields as members.
struct Members<'a>(&'a mut Vec<u8>);

impl Members<'_> {
    fn name(&mut self, field: &Field) -> &mut Vec<u8> {
        self.0.push(b',');
        json::text(self.0, field.name());
        self.0.push(b':');
        self.0
    }
}

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        json::text(self.name(field), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        json::text(self.name(field), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        json::integer(self.name(field), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => json::integer(self.name(field), value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        json::f64(self.name(field), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &Lines) -> String {
        lines.waiting().stop = true;
        let mut out = Vec::new();
        lines.write_all(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_json_object() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(Json { lines: lines.clone() });
        tracing::subscriber::with_default(subscriber, || {
            let absent: Option<&str> = None;
            tracing::info!(
                target: "t",
                text = "q\"\n",
                display = %"d",
                debug = ?Some(1),
                number = 1.5,
                count = 7u64,
                huge = u64::MAX,
                yes = true,
                absent,
                "say {}",
                2
            );
        });
        let line = written(&lines);
        let mut event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let timestamp = event["timestamp"].take();
        assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
        assert_eq!(
            event,
            serde_json::json!({
                "timestamp": null, "level": "INFO", "target": "t", "message": "say 2", "text": "q\"\n",
                "display": "d", "debug": "Some(1)", "number": 1.5, "count": 7, "huge": u64::MAX.to_string(), "yes": true,
            })
        );
        assert!(line.ends_with("}\n"));
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let lines = Lines::default();
        let half = vec![b'x'; WAITING_BYTES_MAX / 2];
        for _ in 0..3 {
            lines.push(&half);
        }
        let text = written(&lines);
        assert_eq!(text.bytes().filter(|&b| b == b'x').count(), WAITING_BYTES_MAX);
        assert!(text.ends_with("\"lines_lost\":1}\n"));
    }

    #[test]
    fn lines_of_all_threads_arrive_whole() {
        let lines = Lines::default();
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| lines.write_all(&mut out));
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..500).for_each(|_| lines.push(b"one line\n"))))
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            lines.waiting().stop = true;
            lines.0.ready.notify_one();
            writer.join().unwrap();
        });
        assert_eq!(out, b"one line\n".repeat(2000));
    }
}
