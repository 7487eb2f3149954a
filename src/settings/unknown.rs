//! [`unknown_variables`]: warnings about `ZPA_` variables that are no settings.

use std::ffi::OsString;

use super::help;
use super::links::is_service_link;
use super::quote::quote;
use super::table::{self, variables};
use crate::workload::Dialect;

/// The prefix of the variables.
const PREFIX: &str = "ZPA_";

/// A line for each variable of `environment` with the prefix that is no setting, except
/// those that Kubernetes sets. Values are not shown: an unknown variable may be a secret.
pub fn unknown_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let lines = environment.into_iter().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let rest = name.strip_prefix(PREFIX)?;
        let is_ours = variables().any(|known| known == name) || is_service_link(name, &value);
        (!is_ours).then(|| complaint(name, rest))
    });
    lines.collect()
}

/// The variable that was probably meant: that of the nearest flag.
fn complaint(name: &str, rest: &str) -> String {
    let flag = rest.to_ascii_lowercase().replace('_', "-");
    let flag = help::nearest_flag(Dialect::Zpa, &flag, &[]);
    let meant = flag.and_then(|flag| table::find(Dialect::Zpa, flag));
    let cure = match meant.and_then(|(setting, _)| setting.variables.first()) {
        Some(variable) => format!("did you mean {variable}?"),
        None => "--help lists them".to_owned(),
    };
    let shown = quote(name.as_ref());
    format!("the variable {shown} is ignored: there is no such setting; {cure}")
}
