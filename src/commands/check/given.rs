//! [`Given`]: what the caller has given, and how it is put over the settings of a proxy.

use std::ffi::OsString;

use super::COMMAND;
use crate::commands::{Environment, process_settings};
use crate::settings::{Scope, Settings, TABLE, in_force};

/// The arguments of the caller.
pub struct Given {
    args: Vec<OsString>,
    /// The settings that they make by themselves.
    pub settings: Settings,
}

/// The settings that say which app is meant, which the caller has given.
const SUBJECT: [&str; 3] = ["deployment", "scale-target", "namespace"];

/// The settings that one app alone has: they are no default of several.
const OF_ONE_APP: [&str; 4] = ["service", "listen", "server-name", "target"];

/// Settings that exclude each other: one that is given may contradict those of the proxy.
const OF_PORTS: [&str; 3] = ["listen", "port", "target"];

impl Given {
    /// Reads the arguments and the environment.
    ///
    /// # Errors
    /// Everything that is wrong with them, a line each.
    pub fn new(args: Vec<OsString>, environment: &Environment<'_>) -> Result<Given, Vec<String>> {
        let settings = process_settings(&COMMAND, args.clone(), environment.env)?;
        Ok(Given { args, settings })
    }

    /// The settings that a proxy has, `found`, with those that were given in their place.
    ///
    /// # Errors
    /// What is wrong with both together, a line each.
    pub fn over(
        &self,
        found: &Settings,
        environment: &Environment<'_>,
    ) -> Result<Settings, Vec<String>> {
        let with_all = self.parse(found, &[], environment);
        let parsed = with_all.or_else(|_| self.parse(found, &OF_PORTS, environment));
        let mut settings = parsed?;
        settings.dialect = found.dialect;
        settings.pods_first = found.pods_first;
        settings.state_configmap = found.state_configmap.clone();
        Ok(settings)
    }

    /// Parses what was given, with the settings of the proxy as if they were variables: flags
    /// and variables of the caller have precedence.
    fn parse(
        &self,
        found: &Settings,
        without: &[&str],
        environment: &Environment<'_>,
    ) -> Result<Settings, Vec<String>> {
        let are_several = self.settings.apps.is_some() || self.settings.discover.is_some();
        let kept = in_force(found).filter(|(flag, _)| {
            let is_of_one = are_several && OF_ONE_APP.contains(flag);
            !(is_of_one || SUBJECT.contains(flag) || without.contains(flag))
        });
        let variables: Vec<(&str, String)> = kept
            .filter_map(|(flag, value)| Some((variable(flag)?, value?)))
            .collect();
        let env = |name: &str| {
            let own = (environment.env)(name).filter(|value| !value.is_empty());
            own.or_else(|| {
                let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
                Some(value.into())
            })
        };
        process_settings(&COMMAND, self.args.clone(), &env)
    }
}

/// The variable of a setting of an app, or of the admin port, with which an app's may clash.
fn variable(flag: &str) -> Option<&'static str> {
    let row = TABLE.iter().find(|row| row.flag == flag)?;
    let is_of_app = row.scope == Scope::App || flag == "admin-listen";
    row.variables.first().copied().filter(|_| is_of_app)
}
