//! What the operating system says about this process, under the names that
//! Prometheus' client libraries use. Where it says nothing, nothing is written.

use modelet::api::metrics::Exposition;
use std::fs;

/// Writes the `process_*` families.
pub(super) fn render(out: &mut Exposition) {
    let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| Stat::parse(&text));
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let bytes = |pages: u64| (pages * rustix::param::page_size() as u64) as f64;
    gauge(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time.",
        stat.as_ref().map(|stat| seconds(stat.cpu_ticks)),
    );
    gauge(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        stat.as_ref().map(|stat| bytes(stat.resident_pages)),
    );
    gauge(
        "process_virtual_memory_bytes",
        "gauge",
        "Address space, most of which the instance pool reserves and never touches.",
        stat.as_ref().map(|stat| stat.virtual_bytes as f64),
    );
    gauge(
        "process_start_time_seconds",
        "gauge",
        "When the process started, since the Unix epoch.",
        stat.as_ref()
            .and_then(|stat| Some(boot_time()? + seconds(stat.start_ticks))),
    );
    gauge(
        "process_threads",
        "gauge",
        "Threads.",
        stat.as_ref().map(|stat| stat.threads as f64),
    );
    gauge(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64),
    );
}

/// The fields of `/proc/self/stat` that are exposed.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field, the name, is in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts from 1; the third field is the first here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system started, in seconds since the Unix epoch.
fn boot_time() -> Option<f64> {
    fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text =
            "7 (a) b (c)) S 1 7 7 0 -1 4194304 90 0 0 0 12 30 0 0 20 0 4 0 555 1000000 250 18446744073709551615 1\n";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                cpu_ticks: 42,
                threads: 4,
                start_ticks: 555,
                virtual_bytes: 1_000_000,
                resident_pages: 250,
            })
        );
        assert_eq!(Stat::parse("7 (x"), None);
    }
}
