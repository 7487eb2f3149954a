//! Arguments and variables of any content: settings that keep to their bounds,
//! or errors of a line each.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use zpa::settings::{self, Invocation, Settings};
use zpa::workload::Dialect;

/// Arguments, and values for the variables in the order of the table.
pub type Input = (Vec<Argument>, Vec<Option<Vec<u8>>>);

/// Flags that exist are hard to guess.
#[derive(arbitrary::Arbitrary, Debug)]
pub enum Argument {
    Flag(u8),
    FlagWithValue(u8, Vec<u8>),
    Any(Vec<u8>),
}

impl Argument {
    fn text(self) -> OsString {
        match self {
            Argument::Flag(number) => flag(number).into(),
            Argument::FlagWithValue(number, value) => {
                let mut text = flag(number).into_bytes();
                text.push(b'=');
                text.extend(value);
                OsString::from_vec(text)
            }
            Argument::Any(text) => OsString::from_vec(text),
        }
    }
}

fn flag(number: u8) -> String {
    let rows = settings::TABLE.iter();
    let flags: Vec<&str> = rows
        .flat_map(|row| Dialect::ALL.into_iter().flat_map(|it| row.names(it)))
        .collect();
    format!("--{}", flags[usize::from(number) % flags.len()])
}

pub fn check(input: Input) {
    let (arguments, mut values) = input;
    values.resize(settings::TABLE.len(), None);
    let value = |name: &str| {
        let rows = settings::TABLE.iter().zip(&values);
        let mut named = rows.filter(|(setting, _)| setting.variables.first() == Some(&name));
        let (_, value) = named.next()?;
        value.clone().map(OsString::from_vec)
    };
    match settings::parse(arguments.into_iter().map(Argument::text), value) {
        Ok(Invocation::Run(settings)) => expect_bounds(&settings),
        Ok(Invocation::Help | Invocation::Version) => {}
        Err(errors) => {
            assert!(errors.lines().count() > 0);
            for line in errors.lines() {
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }
}

fn expect_bounds(settings: &Settings) {
    assert!(settings.target_ref.name() != Some("") || settings.apps.is_some());
    assert!(settings.service.as_deref() != Some(""));
    assert!(settings.idle_ttl >= Duration::from_secs(1));
    assert!(!settings.hold_timeout.is_zero() && !settings.connect_timeout.is_zero());
    assert_ne!(settings.max_connections, Some(0));
    assert!(!settings.log.is_empty());
}
