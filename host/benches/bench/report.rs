//! What was measured, as Markdown.

use std::fmt::Write;
use std::fs;
use std::process::Command;

/// A table with the words that belong to it.
#[derive(Default)]
pub struct Section {
    pub title: &'static str,
    pub text: String,
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    pub targets: Vec<Target>,
}

/// A figure that has a limit.
pub struct Target {
    pub what: &'static str,
    pub unit: &'static str,
    pub measured: f64,
    pub limit: Limit,
}

pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn row(&self) -> Vec<String> {
        let unit = |value: f64| {
            format!("{value:.2}")
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
                + self.unit
        };
        let (limit, met) = match self.limit {
            Limit::AtMost(limit) => (format!("at most {}", unit(limit)), self.measured <= limit),
            Limit::AtLeast(limit) => (format!("at least {}", unit(limit)), self.measured >= limit),
        };
        let verdict = if met { "met" } else { "**missed**" };
        vec![self.what.into(), limit, unit(self.measured), verdict.into()]
    }
}

pub struct Report {
    started_under: String,
    sections: Vec<Section>,
}

impl Report {
    pub fn new() -> Report {
        Report {
            started_under: load_average(),
            sections: Vec::new(),
        }
    }

    pub fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from("# Benchmarks\n\n");
        text.push_str(
            "Written by `cargo xtask bench --write`. Everything below was measured in one run on one machine; \
             what counts are the ratios within a table.\n\n",
        );
        for (name, value) in machine() {
            text.push_str(&format!("- {name}: {value}\n"));
        }
        text.push_str(&format!(
            "- load average of one minute: {} before, {} after\n",
            self.started_under,
            load_average()
        ));
        let targets: Vec<Vec<String>> = self.sections.iter().flat_map(|s| &s.targets).map(Target::row).collect();
        if !targets.is_empty() {
            text.push_str("\n## Targets\n\n");
            table(&mut text, &["figure", "target", "measured", ""], &targets);
        }
        for section in &self.sections {
            text.push_str(&format!("\n## {}\n\n{}\n\n", section.title, section.text));
            table(&mut text, &section.header, &section.rows);
        }
        text
    }
}

/// The first column is words, the others are numbers.
fn table(text: &mut String, header: &[&str], rows: &[Vec<String>]) {
    let rule: Vec<&str> = (0..header.len()).map(|i| if i == 0 { "---" } else { "---:" }).collect();
    for cells in [header.join(" | "), rule.join(" | ")]
        .into_iter()
        .chain(rows.iter().map(|row| row.join(" | ")))
    {
        writeln!(text, "| {cells} |").expect("a string takes what is written");
    }
}

/// The machine by its facts.
fn machine() -> [(&'static str, String); 5] {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("unknown".into(), |(_, value)| value.trim().to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal");
    let memory_kib = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    [
        ("processor", field("/proc/cpuinfo", "model name")),
        (
            "processors",
            std::thread::available_parallelism().map_or(0, usize::from).to_string(),
        ),
        ("memory", format!("{:.1} GiB", memory_kib / 1024.0 / 1024.0)),
        ("kernel", kernel.trim().to_owned()),
        ("compiler", String::from_utf8_lossy(&rustc).trim().to_owned()),
    ]
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
