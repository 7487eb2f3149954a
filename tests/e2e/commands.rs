//! The commands as they are called: their help, and what is answered to what is misspelt.

use std::process::{Command, Output};

fn zpa(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command.env_clear().args(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = zpa(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const COMMANDS: [&str; 7] = [
    "manifests",
    "check",
    "uninstall",
    "wake",
    "explain",
    "completion",
    "help",
];

#[test]
fn each_command_has_a_help_by_three_ways_and_zpa_names_it() {
    let all = printed(&["--help"]);
    assert_eq!(printed(&["help"]), all);
    for command in COMMANDS {
        let help = printed(&[command, "--help"]);
        assert_eq!(printed(&["help", command]), help);
        assert_eq!(printed(&[command, "--no-such-flag", "-h"]), help);
        assert!(all.contains(&format!("\n       zpa {command} ")), "{all}");
        for part in [
            "\nUsage: zpa ",
            "\nOptions:\n",
            "\nExit codes:\n",
            "\nExamples:\n",
        ] {
            assert!(help.contains(part), "{part} in {help}");
        }
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        assert_eq!(printed(&[command, "--version"]), printed(&["--version"]));
    }
}

#[test]
fn what_is_misspelt_is_answered_with_the_nearest() {
    for (args, expected) in [
        (&["chekc", "--deployment=a"][..], "did you mean check?"),
        (&["unistall"], "did you mean uninstall?"),
        (&["my-app"], "give one of: manifests, check, uninstall"),
        (&["help", "manifest"], "did you mean manifests?"),
        (&["explain", "probee"], "did you mean PROBE?"),
        (
            &["explain"],
            "explain takes a code of zpa check or of the page; give one of: API, VERSION, TARGET",
        ),
        (&["completion", "bahs"], "did you mean bash?"),
        (
            &["completion"],
            "completion takes a shell; give one of: bash, zsh, fish",
        ),
        (
            &["check", "--deployment=a", "--outptu=json"],
            "\"--outptu\": there is no such flag; did you mean --output?",
        ),
        (
            &["check", "--deployment=a", "--idel-ttl=5m"],
            "did you mean --idle-ttl?",
        ),
        (
            &["manifests", "--deployment=a", "--imgae", "b"],
            "did you mean --image?",
        ),
        (
            &["uninstall", "--deployment=a", "--dry"],
            "did you mean --dry-run?",
        ),
        (&["check", "my-app"], "every setting is a flag"),
    ] {
        let output = zpa(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(expected), "{args:?}: {errors}");
    }
}
