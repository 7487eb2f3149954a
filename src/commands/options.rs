//! [`Options`]: the options of a command in addition to the settings.

use std::ffi::OsString;

/// An option of a command.
pub struct CommandOption {
    /// Its name, with the dashes.
    pub name: &'static str,
    /// The placeholder of the value in the help; empty for a switch.
    pub placeholder: &'static str,
    /// The default: the value, or what its absence means.
    pub default: &'static str,
    /// The help: a sentence without the full stop.
    pub help: &'static str,
    /// The values, if they are few.
    pub choices: &'static [&'static str],
}

impl CommandOption {
    /// One that takes no value.
    pub const fn switch(
        name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> CommandOption {
        CommandOption::value(name, "", default, help)
    }

    /// One that takes a value.
    pub const fn value(
        name: &'static str,
        placeholder: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> CommandOption {
        CommandOption {
            name,
            placeholder,
            default,
            help,
            choices: &[],
        }
    }

    /// The same, whose value is one of these.
    pub const fn of(self, choices: &'static [&'static str]) -> CommandOption {
        CommandOption { choices, ..self }
    }
}

/// The given options of a command, and the remaining arguments.
pub struct Options {
    given: Vec<(&'static str, String)>,
    /// The arguments that are not the command's own.
    pub rest: Vec<OsString>,
}

impl Options {
    /// Takes the options of `known` out of the arguments: `--name value`,
    /// `--name=value` or, for a switch, `--name`.
    ///
    /// # Errors
    /// A value that is missing, empty or not UTF-8, or that a switch does not take.
    pub fn take(known: &'static [CommandOption], args: &[OsString]) -> Result<Options, String> {
        let mut options = Options {
            given: Vec::new(),
            rest: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_str().unwrap_or_default();
            let (name, attached) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            let Some(option) = known.iter().find(|option| option.name == name) else {
                options.rest.push(arg.clone());
                continue;
            };
            let value = match (option.placeholder, attached) {
                ("", None) => String::new(),
                ("", Some(_)) => return Err(format!("{name}: takes no value")),
                (_, Some(value)) => value,
                (_, None) => match args.next().and_then(|value| value.to_str()) {
                    Some(value) => value.to_owned(),
                    None => return Err(format!("{name}: needs a value")),
                },
            };
            if value.is_empty() && !option.placeholder.is_empty() {
                return Err(format!("{name}: needs a value"));
            }
            options.given.push((option.name, value));
        }
        Ok(options)
    }

    /// Whether it was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value that was given; of several the last counts.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter().rev();
        given
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: [CommandOption; 2] = [
        CommandOption::value("--image", "IMAGE", "", ""),
        CommandOption::switch("--take-over", "", ""),
    ];

    fn take(args: &[&str]) -> Result<Options, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Options::take(&KNOWN, &args)
    }

    #[test]
    fn an_option_is_taken_wherever_it_stands_and_what_is_left_is_in_order() {
        let options = take(&[
            "--deployment",
            "a",
            "--image=b",
            "--take-over",
            "--idle-ttl=1m",
        ]);
        let options = options.ok().unwrap();
        assert_eq!(options.value("--image"), Some("b"));
        assert!(options.is_given("--take-over"));
        assert_eq!(options.rest, ["--deployment", "a", "--idle-ttl=1m"]);
    }

    #[test]
    fn of_several_the_last_counts() {
        let options = take(&["--image", "a", "--image", "b"]).ok().unwrap();
        assert_eq!(options.value("--image"), Some("b"));
    }

    #[test]
    fn a_value_that_is_missing_or_too_much_is_named() {
        for (args, expected) in [
            (&["--image"][..], "--image: needs a value"),
            (&["--image="], "--image: needs a value"),
            (&["--take-over=yes"], "--take-over: takes no value"),
        ] {
            assert_eq!(take(args).err().as_deref(), Some(expected));
        }
    }
}
