//! Tables in Markdown, and the description of the machine.

use std::fmt::{self, Display};
use std::fs;

/// What a run has found, printed as it is found.
#[derive(Default)]
pub struct Report(String);

impl Report {
    pub fn add(&mut self, part: &impl Display) {
        println!("{part}");
        self.0.push_str(&format!("{part}\n"));
    }

    /// Adds what only some want to see: in the file of numbers it is folded away.
    pub fn add_folded(&mut self, summary: &str, part: &impl Display) {
        println!("{part}");
        let begin = format!("<details><summary>{summary}</summary>");
        self.0
            .push_str(&format!("{begin}\n\n{part}\n</details>\n\n"));
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A table with words below it.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub fn new(head: Vec<String>) -> Table {
        Table {
            head,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Adds the rows of another table with the same head, and what it says.
    pub fn append(&mut self, other: Table) {
        self.rows.extend(other.rows);
        self.notes.extend(other.notes);
    }

    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(self.head.len() - 1))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// A number with three significant digits, more if it is large.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "–".to_owned(),
        size if size >= 10_000.0 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// By what factor `zpa` is better, marked where it is not.
pub fn factor(value: f64) -> String {
    let mark = if value < 0.995 { "< " } else { "" };
    format!("{mark}{}", number(value))
}

/// What everything was measured on.
pub fn machine(quick: bool, other_proxies: &[String]) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kind = if quick {
        " A quick run: rough numbers."
    } else {
        ""
    };
    let (kernel, control) = (kernel.trim(), control.trim());
    let other_proxies: String = other_proxies
        .iter()
        .map(|other| format!(", {other}"))
        .collect();
    format!("Linux {kernel}, {model}, {cores} cores, {control}{other_proxies}.{kind}\n")
}
