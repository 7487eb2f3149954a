//! The completion of bash.
//!
//! To bash `--flag=value` is three words, since `=` is one of COMP_WORDBREAKS: the flag is the
//! word before the `=`, if there is one.

use super::{Flag, Value, commands, settings};

pub fn script() -> String {
    let settings = settings();
    let own: String = commands()
        .map(|(command, options)| cases(command.name, &options))
        .collect();
    let flags: String = commands()
        .map(|(command, options)| {
            let arguments = (command.words)().join(" ");
            let settings = if command.settings.is_some() {
                " $settings"
            } else {
                ""
            };
            format!(
                "        {}) arguments='{arguments}' words=\"{}{settings}\" ;;\n",
                command.name,
                names(&options)
            )
        })
        .collect();
    let all: Vec<&str> = commands().map(|(command, _)| command.name).collect();
    let (head, all, settings_cases) = (HEAD, all.join(" "), cases("*", &settings));
    let settings = names(&settings);
    format!(
        "{head}    local settings='{settings}'\n    case $command:$flag in\n{own}{settings_cases}        \
         *) [[ $equals ]] || is_flag=1 ;;\n    esac\n    [[ $is_flag ]] && case $command in\n{flags}        \
         *) words=\"$settings --help --version\" ;;\n    esac\n    ((COMP_CWORD == 1)) && \
         words+=' {all}'\n{END}"
    )
}

const HEAD: &str = r#"# bash completion of zpa: zpa completion bash
_zpa() {
    local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} equals= words= arguments= files= is_flag=
    if [[ $word == = ]]; then
        word= equals=1
    elif [[ $flag == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]} equals=1
    fi
"#;

const END: &str = r#"    ((COMP_CWORD == 2)) && words+=" $arguments"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [[ $files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -F _zpa zpa
"#;

fn names(flags: &[Flag]) -> String {
    let names: Vec<&str> = flags.iter().map(|flag| &*flag.name).collect();
    names.join(" ")
}

/// What is completed behind each flag: those with the same answer share a case.
fn cases(command: &str, flags: &[Flag]) -> String {
    let mut cases: Vec<(String, Vec<String>)> = Vec::new();
    for flag in flags {
        let words = flag.words().join(" ");
        let answer = match flag.value {
            Value::None => "[[ $equals ]] || is_flag=1".to_owned(),
            Value::Switch => format!("if [[ $equals ]]; then words='{words}'; else is_flag=1; fi"),
            Value::Words(_) => format!("words='{words}'"),
            Value::Files(_) => format!("words='{words}' files=1"),
        };
        let pattern = format!("{command}:{}", flag.name);
        match cases.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, patterns)) => patterns.push(pattern),
            None => cases.push((answer, vec![pattern])),
        }
    }
    let cases = cases.iter().map(|(answer, patterns)| {
        let patterns = patterns.join(" | ");
        format!("        {patterns})\n            {answer} ;;\n")
    });
    cases.collect()
}
