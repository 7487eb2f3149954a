//! The completion of zsh.

use super::{Flag, Value, commands, escaped, settings};

/// Between the arguments of `_arguments`.
const NEXT: &str = " \\\n            ";

pub fn script() -> String {
    let settings: Vec<String> = settings().iter().map(spec).collect();
    let named: String = commands()
        .map(|(command, options)| {
            let mut specs = vec!["'1: :'".to_owned()];
            if let words @ [_, ..] = &(command.words)()[..] {
                specs.push(format!("'2: :({})'", words.join(" ")));
            }
            specs.extend(options.iter().map(spec));
            specs.extend(command.settings.map(|_| settings_beside(&options)));
            let specs = specs.join(NEXT);
            format!("        {}) _arguments{NEXT}{specs} ;;\n", command.name)
        })
        .collect();
    let all: Vec<String> = commands()
        .map(|(command, _)| format!("{}\\:{}", command.name, described(command.summary)))
        .collect();
    let (settings, all) = (settings.join("\n        "), all.join(" "));
    format!(
        "#compdef zpa\n# zsh completion of zpa: zpa completion zsh\n_zpa() {{\n    local -a settings\n    \
         settings=(\n        {settings}\n    )\n    case $words[2] in\n{named}        *) _arguments{NEXT}\
         '1: :(({all}))'{NEXT}'--help[Print the help]'{NEXT}'--version[Print the version]'{NEXT}\
         \"$settings[@]\" ;;\n    esac\n}}\n{END}"
    )
}

/// The settings, without those that an option hides: of two with one name both would be offered.
fn settings_beside(options: &[Flag]) -> String {
    let names: Vec<&str> = options.iter().map(|option| &*option.name).collect();
    format!("\"${{(@)settings:#({})=*}}\"", names.join("|"))
}

/// As a file of `fpath` it is the function itself; as a script that is read it names it.
const END: &str = "\
if [[ $funcstack[1] == _zpa ]]; then
    _zpa \"$@\"
else
    compdef _zpa zpa
fi
";

/// The argument of `_arguments` for a flag.
fn spec(flag: &Flag) -> String {
    let words = flag.words().join(" ");
    let placeholder = escaped(flag.placeholder, &[':']);
    let (equals, value) = match flag.value {
        Value::None => ("", String::new()),
        Value::Switch => ("=-", format!("::value:({words})")),
        Value::Words([]) => ("=", format!(":{placeholder}: ")),
        Value::Words(_) => ("=", format!(":{placeholder}:({words})")),
        Value::Files([]) => ("=", format!(":{placeholder}:_files")),
        Value::Files(_) => (
            "=",
            format!(":{placeholder}:{{compadd -- {words}; _files}}"),
        ),
    };
    let repeated = if flag.is_repeated { "*" } else { "" };
    let help = escaped(&flag.help, &['[', ']', ':', '\\']).replace('\'', r"'\''");
    format!("'{repeated}{}{equals}[{help}]{value}'", flag.name)
}

/// The description of a word in a list within single quotes.
fn described(text: &str) -> String {
    let text = escaped(text, &['"', '\\', '$', '`']).replace('\'', r"'\''");
    format!("\"{text}\"")
}
