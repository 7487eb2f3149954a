//! Two kubeconfigs of any text: read within limits or refused without a word of
//! what is in them, and merged so that the first one counts.

use std::path::Path;

use zpa::kube::kubeconfig::{Choice, Kubeconfig, Selected};

/// Where the text is cut in two, and the text.
pub type Input<'a> = (u16, &'a [u8]);

/// The longest complaint. Bytes; a name in it is capped at 500 characters, each
/// of which may be escaped.
const MAX_COMPLAINT_LEN: usize = 10_000;

pub fn check(input: Input) {
    let (cut, text) = input;
    let (first, second) = text.split_at(usize::from(cut) % (text.len() + 1));
    let whole = read(text);
    let halves = (read(first), read(second));
    if let Some(config) = &whole {
        let twice = config.clone().merged(config.clone());
        assert!(same(config, &twice), "merged with itself it is another");
    }
    if let (Some(first), Some(second)) = halves {
        let merged = first.clone().merged(second.clone());
        assert_eq!(merged.is_empty(), first.is_empty() && second.is_empty());
        // Whatever the first one leads to, the merged one leads to as well.
        for name in NAMES {
            let choice = Choice {
                user: Some(name),
                ..Choice::default()
            };
            let (alone, merged) = (first.select(choice), merged.select(choice));
            if let (Ok(alone), Ok(merged), false) = (alone, merged, first.is_empty()) {
                assert_eq!(alone.user.token, merged.user.token);
            }
        }
    }
}

/// Names that the seeds have.
const NAMES: [&str; 3] = ["a", "b", "kind-zpa"];

fn read(text: &[u8]) -> Option<Kubeconfig> {
    let folder = Path::new("/folder");
    let config = Kubeconfig::parse(text, folder)
        .map_err(|why| fit_for_a_log(&why))
        .ok()?;
    if let Err(why) = config.select(Choice::default()) {
        fit_for_a_log(&why);
    }
    if let Ok(selected) = config.select(Choice::default()) {
        let paths = [
            &selected.cluster.certificate_authority,
            &selected.user.token_file,
            &selected.user.client_certificate,
            &selected.user.client_key,
        ];
        for path in paths.into_iter().flatten() {
            assert!(path.is_absolute(), "{}", path.display());
        }
    }
    Some(config)
}

fn fit_for_a_log(why: &str) {
    assert!(!why.contains(char::is_control), "{why:?}");
    assert!(why.len() < MAX_COMPLAINT_LEN, "{} bytes", why.len());
}

fn same(one: &Kubeconfig, other: &Kubeconfig) -> bool {
    let facts = |selected: Selected| {
        (
            selected.cluster.server,
            selected.user.token,
            selected.namespace,
        )
    };
    let choice = Choice::default();
    one.select(choice).map(facts) == other.select(choice).map(facts)
}
