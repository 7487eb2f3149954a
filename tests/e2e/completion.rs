//! `zpa completion`: the script of each shell, checked and asked by that shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the file in the directory in which the shells complete.
const FILE: &str = "list of apps.json";

/// A directory with the script of a shell and another file; removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn with_script(shell: &str) -> Directory {
        let name = format!("zpa-completion-{}-{shell}", std::process::id());
        let directory = Directory(std::env::temp_dir().join(name));
        fs::create_dir_all(&directory.0).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_zpa"))
            .args(["completion", shell])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        fs::write(directory.script(), output.stdout).unwrap();
        fs::write(directory.0.join(FILE), "[]").unwrap();
        directory
    }

    fn script(&self) -> PathBuf {
        self.0.join("script")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the shell prints, in that directory.
fn shell(program: &str, directory: &Directory, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(&directory.0)
        .env("HOME", &directory.0)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_missing(program: &str) -> bool {
    let is_missing = Command::new(program).arg("--version").output().is_err();
    if is_missing {
        support::skip_without(program);
    }
    is_missing
}

/// Command lines, the last word of which is to be completed, and all that is offered.
const LINES: [(&str, &[&str]); 22] = [
    ("zpa ch", &["check"]),
    ("zpa --idle-t", &["--idle-ttl", "--idle-timeout"]),
    ("zpa --vers", &["--version"]),
    ("zpa --ready-gate ", &["probe", "accept", "greeting"]),
    ("zpa --ready-gate=", &["probe", "accept", "greeting"]),
    ("zpa --ready-gate=gr", &["greeting"]),
    ("zpa --ready-gate gr", &["greeting"]),
    ("zpa --fail-fast=", &["true", "false"]),
    ("zpa --fail-fast --idle-tt", &["--idle-ttl"]),
    ("zpa --idle-ttl 5m --ready-gate a", &["accept"]),
    ("zpa --hold-answer po", &["postgres"]),
    ("zpa check --out", &["--output"]),
    ("zpa check --output ", &["table", "short", "json"]),
    ("zpa check --output=", &["table", "short", "json"]),
    ("zpa check --idle-tt", &["--idle-ttl"]),
    ("zpa check --apps li", &[FILE]),
    ("zpa check --apps=li", &[FILE]),
    ("zpa explain PRO", &["PROBE", "PROXY"]),
    ("zpa explain --idle-tt", &[]),
    ("zpa completion f", &["fish"]),
    ("zpa help uni", &["uninstall"]),
    ("zpa uninstall --dry-run=", &[]),
];

/// Compares what `complete` offers for each line, whose words it gives without what was typed.
fn expect(complete: impl Fn(&str) -> String) {
    for (line, expected) in LINES {
        let offered = complete(line);
        let mut offered: Vec<&str> = offered.lines().collect();
        let mut expected = expected.to_vec();
        offered.sort_unstable();
        expected.sort_unstable();
        assert_eq!(offered, expected, "{line}");
    }
}

#[test]
fn bash_completes_commands_flags_values_codes_and_files() {
    if is_missing("bash") {
        return;
    }
    let directory = Directory::with_script("bash");
    shell("bash", &directory, &["-n", "script"]);
    // The last words of a line as bash has them: `=` stands alone.
    let function = "source ./script
        [[ $(complete -p zpa) == *_zpa* ]] || exit 1
        line=${1//=/ = }
        read -ra COMP_WORDS <<<\"$line\"
        [[ $line == *' ' && $1 != *= ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _zpa
        [[ ${#COMPREPLY[@]} == 0 ]] || printf '%s\\n' \"${COMPREPLY[@]}\"";
    expect(|line| {
        let args = ["--norc", "-c", function, "bash", line];
        shell("bash", &directory, &args)
    });
}

#[test]
fn fish_completes_commands_flags_values_codes_and_files() {
    if is_missing("fish") {
        return;
    }
    let directory = Directory::with_script("fish");
    shell("fish", &directory, &["--no-execute", "script"]);
    let function = "source ./script; complete --do-complete $argv[1]";
    expect(|line| {
        let offered = shell("fish", &directory, &["-N", "-c", function, line]);
        // Each with its description behind a tab, and with the flag before a `=`.
        let words = offered.lines().map(|it| it.split('\t').next().unwrap());
        let typed = line.rsplit(' ').next().unwrap();
        let flag = typed.find('=').map_or("", |at| &typed[..=at]);
        let words = words.map(|it| it.strip_prefix(flag).unwrap_or(it).to_owned() + "\n");
        words.collect()
    });
}

#[test]
fn zsh_completes_commands_flags_values_codes_and_files() {
    if is_missing("zsh") {
        return;
    }
    let directory = Directory::with_script("zsh");
    shell("zsh", &directory, &["-n", "script"]);
    let asking = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/completion.zsh");
    let asking = asking.to_str().unwrap();
    expect(|line| {
        let args = ["-f", asking, "./script", line];
        shell("zsh", &directory, &args)
    });
}
