//! Values of settings that are chosen by name: a table of names and values for each.

/// The value with that name.
///
/// # Errors
/// That it is none of the names.
pub(super) fn parse<T: Clone>(table: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = table.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, value)| value.clone())
        .ok_or_else(|| format!("is none of {}", all(table)))
}

/// The name of a value; empty if it has none.
pub(super) fn name<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    let found = table.iter().find(|(_, it)| it == value);
    found.map_or("", |(name, _)| name)
}

fn all<T>(table: &[(&str, T)]) -> String {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
