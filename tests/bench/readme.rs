//! The numbers in README.md, which are written by a run and by nobody else.

use std::fs;
use std::path::Path;

use crate::proxies::builds;
use crate::{Plan, Result};

const BEGIN: &str = "<!-- Written by make bench README=1 -->\n";
const END: &str = "<!-- /Written -->\n";

/// Whether the run is to write them.
pub fn is_wanted() -> bool {
    crate::is_set("README")
}

/// What of the plan makes it unfit for README.md.
pub fn objection(plan: &Plan) -> Option<&'static str> {
    if plan.quick {
        return Some("a quick run is too rough for README.md");
    }
    if !plan.chosen.is_empty() || !plan.rivals.is_empty() {
        return Some("README.md has everything, so everything must be measured");
    }
    (builds().len() > 1).then_some("README.md has but one build")
}

/// Puts `numbers` where the last ones are.
pub fn write(numbers: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path)?;
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| format!("README.md lacks {BEGIN:?} or, after it, {END:?}"))?;
    let numbers = numbers.trim();
    fs::write(&path, format!("{before}{BEGIN}\n{numbers}\n\n{END}{after}"))?;
    Ok(())
}
