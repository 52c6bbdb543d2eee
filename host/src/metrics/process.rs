//! What the operating system says about this process, under the names that
//! Prometheus' client libraries use, about its control group (version 2), which
//! is what a container is limited by, and about the disk. Where it says
//! nothing, nothing is written.

use modelet::api::metrics::Exposition;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the `process_*`, `cgroup_*` and `disk_*` families; `folder` is on the
/// disk that is asked about.
pub(super) fn render(out: &mut Exposition, folder: Option<&Path>) {
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
    let group = cgroup();
    let read = |name: &str| fs::read_to_string(group.as_ref()?.join(name)).ok();
    // What is not limited says `max`.
    let number = |name: &str| read(name)?.trim().parse::<f64>().ok();
    gauge(
        "cgroup_memory_bytes",
        "gauge",
        "Memory of the control group.",
        number("memory.current"),
    );
    gauge(
        "cgroup_memory_limit_bytes",
        "gauge",
        "The most memory that the control group may have.",
        number("memory.max"),
    );
    gauge(
        "cgroup_cpu_limit_cores",
        "gauge",
        "The most processors that the control group may use.",
        read("cpu.max").and_then(|text| cores(&text)),
    );
    let usage = read("cpu.stat");
    let microseconds = |name: &str| Some(stat_value(usage.as_deref()?, name)? as f64 / 1e6);
    gauge(
        "cgroup_cpu_seconds_total",
        "counter",
        "CPU time of the control group.",
        microseconds("usage_usec"),
    );
    gauge(
        "cgroup_cpu_throttled_seconds_total",
        "counter",
        "Time that the control group waited because it was at its limit.",
        microseconds("throttled_usec"),
    );
    let disk = folder.and_then(|folder| rustix::fs::statvfs(folder).ok());
    gauge(
        "disk_free_bytes",
        "gauge",
        "What is free on the disk of the monitor's file.",
        disk.map(|disk| (disk.f_bavail * disk.f_frsize) as f64),
    );
}

/// The folder of this process's control group, version 2.
fn cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(path);
    folder.is_dir().then_some(folder)
}

/// The processors that `cpu.max` allows: a quota and a period.
fn cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

/// A value of a file with a name and a number a line.
fn stat_value(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?
        .parse()
        .ok()
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
    fn a_control_group_says_what_it_may_use() {
        assert_eq!(cores("150000 100000\n"), Some(1.5));
        assert_eq!(cores("max 100000\n"), None);
        let stat = "usage_usec 1500000\nnr_throttled 3\nthrottled_usec 20\n";
        assert_eq!(stat_value(stat, "usage_usec"), Some(1_500_000));
        assert_eq!(stat_value(stat, "throttled_usec"), Some(20));
        assert_eq!(stat_value(stat, "throttled"), None);
    }

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
