//! The completion of fish.

use super::{Flag, Value, commands, escaped, settings};

pub fn script() -> String {
    let mut text = HEAD.to_owned();
    for (command, options) in commands() {
        let (name, summary) = (command.name, quoted(command.summary));
        let condition = format!("'__zpa_is {name}'");
        text += &format!("complete -c zpa -n __zpa_is_first -a {name} -d {summary}\n");
        if let words @ [_, ..] = &(command.words)()[..] {
            let words = words.join(" ");
            text += &format!("complete -c zpa -n {condition} -a '{words}'\n");
        }
        for flag in &options {
            text += &line(flag, &condition);
        }
    }
    for flag in settings() {
        text += &line(&flag, &format!("'__zpa_is {}'", users(&flag)));
    }
    text
}

/// The commands with that setting, `zpa` alone among them, and not those with an option of the
/// same name.
fn users(setting: &Flag) -> String {
    let users = commands().filter(|(command, options)| {
        let is_option = options.iter().any(|option| option.name == setting.name);
        command.settings.is_some() && !is_option
    });
    let names = users.map(|(command, _)| command.name);
    ["zpa"]
        .into_iter()
        .chain(names)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without a command the line is that of `zpa` itself.
const HEAD: &str = "\
# fish completion of zpa: zpa completion fish
function __zpa_is_first
    test (count (commandline -opc)) -eq 1
end
function __zpa_is
    set -l words (commandline -opc)
    string match -q -- '-*' $words[2]; and set -e words[2..]
    set -q words[2]; or set words zpa zpa
    contains -- $words[2] $argv
end
complete -c zpa -f
complete -c zpa -n '__zpa_is zpa' -l help -d 'Print the help'
complete -c zpa -n '__zpa_is zpa' -l version -d 'Print the version'
";

fn line(flag: &Flag, condition: &str) -> String {
    let value = match flag.value {
        Value::None => String::new(),
        Value::Switch => format!(" -a '{}'", flag.words().join(" ")),
        Value::Words(words) => format!(" -x -a '{}'", words.join(" ")),
        Value::Files(words) => format!(" -r -F -a '{}'", words.join(" ")),
    };
    let name = flag.name.trim_start_matches('-');
    let help = quoted(&flag.help);
    format!("complete -c zpa -n {condition} -l {name}{value} -d {help}\n")
}

fn quoted(text: &str) -> String {
    format!("'{}'", escaped(text, &['\\', '\'']))
}
