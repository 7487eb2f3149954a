use super::*;
use proptest::prelude::*;

fn names(text: &str) -> ServerNames {
    text.parse().unwrap()
}

fn table(owners: &[(u8, &str)]) -> NameTable<u8> {
    let mut table = NameTable::default();
    for (owner, text) in owners {
        table.set(*owner, &names(text));
    }
    table
}

#[test]
fn names_are_read_and_shown_in_one_form() {
    for (text, shown) in [
        ("db.example.com", "db.example.com"),
        ("DB.Example.com.", "db.example.com"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
        ("localhost", "localhost"),
        ("_db.7.example", "_db.7.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("b.example, a.example,b.example", "a.example,b.example"),
    ] {
        let read = names(text);
        assert_eq!(read.to_string(), shown, "{text}");
        assert_eq!(names(shown), read, "{text}");
    }
}

#[test]
fn a_text_that_no_client_sends_is_no_name() {
    let long = format!("{}.example", "a".repeat(64));
    let longer = format!("{0}.{0}.{0}.{0}.x", "a".repeat(63));
    for (text, why) in [
        ("", "has an empty label"),
        ("a..b", "has an empty label"),
        ("*.", "has an empty label"),
        ("bücher.example", "begins with xn--"),
        ("*.*.example", "has a * that is not its first label"),
        ("db*.example", "has a * that is not its first label"),
        ("192.0.2.7", "is an IP address"),
        ("[::1]", "has '[', which no host name has"),
        ("db.example:5432", "a name has no port"),
        ("https://db", "has ':'"),
        ("-db.example", "begins or ends with a hyphen"),
        ("a.example,,b.example", "has an empty label"),
        (&long, "has a label of more than 63 characters"),
        (&longer, "is longer than 253 characters"),
    ] {
        let error = text.parse::<ServerNames>().unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let many: Vec<String> = (0..=MAX_NAMES).map(|n| format!("n{n}.example")).collect();
    let error = many.join(",").parse::<ServerNames>().unwrap_err();
    assert_eq!(error, "has 257 names, and an app may have 256");
    let mut all = names(&many[1..].join(","));
    assert!(all.extend(names(&many[0])).is_err(), "flag by flag too");
}

#[test]
fn a_name_comes_before_a_wildcard_and_that_before_the_default() {
    let table = table(&[
        (1, "db.example.com,other.example"),
        (2, "*.example.com"),
        (3, "*"),
    ]);
    for (name, owner) in [
        (Some("db.example.com"), 1),
        (Some("DB.EXAMPLE.COM."), 1),
        (Some("web.example.com"), 2),
        (Some("a.web.example.com"), 3),
        (Some("example.com"), 3),
        (Some("sub.other.example"), 3),
        (Some("com"), 3),
        (None, 3),
    ] {
        assert_eq!(table.find(name, |_| true), Some(owner), "{name:?}");
    }
}

#[test]
fn without_a_default_the_others_belong_to_nobody() {
    let table = table(&[(1, "db.example.com"), (2, "*.example.com")]);
    for name in [Some("example.com"), Some("a.b.example.com"), Some(""), None] {
        assert_eq!(table.find(name, |_| true), None, "{name:?}");
    }
}

/// Names that go from one to another in one change of the list, in either order.
#[test]
fn names_that_move_are_those_of_whoever_is_to_have_them() {
    let changes = [(1, "a"), (2, "b,c")];
    let expected = table(&changes);
    for order in [[0, 1], [1, 0]] {
        let mut table = table(&[(1, "a,b"), (2, "c,d")]);
        for index in order {
            let (owner, text) = changes[index];
            table.set(owner, &names(text));
        }
        assert_eq!(table, expected);
    }
    let mut table = expected;
    table.set(3, &names("a"));
    table.remove(1);
    assert_eq!(
        table.find(Some("a"), |_| true),
        Some(3),
        "it is not the first's any more"
    );
    table.remove(2);
    table.remove(3);
    assert!(table.is_empty());
}

#[test]
fn a_header_is_skipped_where_there_is_one_to_be() {
    let table = table(&[(1, "a")]);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    let not_tls = Verdict::Refused(Refusal::NotTls);
    assert_eq!(table.route(header, false, |_| true), not_tls);
    for end in 0..=header.len() {
        assert_eq!(
            table.route(&header[..end], true, |_| true),
            Verdict::Undecided
        );
    }
    let then = |rest: &[u8]| table.route(&[header, rest].concat(), true, |_| true);
    assert_eq!(then(b"\x16\x03"), Verdict::Undecided);
    assert_eq!(then(b"GET"), not_tls);
    assert_eq!(
        table.route(b"\x16\x03", true, |_| true),
        not_tls,
        "no header"
    );
}

/// The table without its order: the longest pattern that matches.
fn found(owners: &[(u8, &str)], name: &str) -> Option<u8> {
    let matches = |pattern: &str| match pattern.strip_prefix('*') {
        Some("") => true,
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(_, parent)| format!(".{parent}") == rest),
        None => pattern == name,
    };
    let matching = owners.iter().filter(|(_, pattern)| matches(pattern));
    let best = matching.max_by_key(|(_, pattern)| (!pattern.starts_with('*'), pattern.len()));
    best.map(|(owner, _)| *owner)
}

proptest! {
    #[test]
    fn the_table_finds_what_a_search_finds(name in "[ab](\\.[ab]){0,3}", stopped in 0..7_u8) {
        let owners = [(1, "a.b"), (2, "*.b"), (3, "*.a.b"), (4, "b.a.b"), (5, "a"), (6, "*")];
        let table = table(&owners);
        let others: Vec<_> = owners.into_iter().filter(|(owner, _)| *owner != stopped).collect();
        prop_assert_eq!(table.find(Some(&name), |it| it != stopped), found(&others, &name));
    }
}
