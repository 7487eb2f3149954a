//! The files with the numbers of the last full run: all tables in `tests/bench/NUMBERS.md`, and the
//! summary in README.md. Only a run of the bench writes them.

use std::fs;
use std::path::Path;

use crate::proxies::builds;
use crate::report::Table;
use crate::{Plan, Result};

const TABLES: &str = "tests/bench/NUMBERS.md";
const SUMMARY: &str = "README.md";
const BEGIN: &str = "<!-- Written by make bench WRITE=1 -->\n";
const END: &str = "<!-- /Written -->\n";

/// Whether the run is to write them.
pub fn are_wanted() -> bool {
    crate::is_set("WRITE")
}

/// What of the plan makes its numbers unfit to be written down.
pub fn objection(plan: &Plan) -> Option<&'static str> {
    if plan.quick {
        return Some("a quick run is too rough to be written down");
    }
    if !plan.chosen.is_empty() || !plan.other_proxies.is_empty() {
        return Some("what is written down has everything, so everything must be measured");
    }
    (builds().len() > 1).then_some("what is written down has but one build")
}

/// Puts the tables and the summary where the last ones are.
pub fn write(tables: &str, summary: &Table) -> Result<()> {
    replace(TABLES, tables)?;
    replace(SUMMARY, &summary.to_string())
}

fn replace(file: &str, numbers: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| format!("{file} lacks {BEGIN:?} or, after it, {END:?}"))?;
    let numbers = numbers.trim();
    fs::write(&path, format!("{before}{BEGIN}\n{numbers}\n\n{END}{after}"))?;
    Ok(())
}
