//! The list of apps ([`Settings::read_apps`]): a JSON list of objects, whose keys are the
//! names of settings.
//!
//! An object is read like a command line, by the same table and the same parsers. What the
//! process was given of an app's settings is the default of every object.

use std::net::SocketAddr;
use std::sync::Arc;

use super::json::Json;
use super::listen::Listener;
use super::quote::quote;
use super::raw::{RawSettings, RawValue, Values};
use super::table::{self, Scope, Setting, ValueKind};
use super::{Errors, Origin, Settings, TARGETS, help, resolve};
use crate::workload::Dialect;

/// The longest list. A ConfigMap has at most as many bytes.
pub const MAX_LIST_LEN: usize = 1 << 20;

/// The most apps of a list.
pub const MAX_APPS: usize = 4096;

/// The most errors that are reported of one list.
const MAX_ERRORS: usize = 100;

/// The settings that one app alone can have: beside a list they are no default.
pub(super) const OF_ONE_APP: [&str; 6] = [
    "deployment",
    "scale-target",
    "service",
    "listen",
    "server-name",
    "target",
];

/// The values that a process with a list was given: the defaults of its apps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults(Arc<Values>);

impl Defaults {
    /// Keeps no secret of the process.
    pub(super) fn new(mut values: Values) -> Defaults {
        values.retain(|flag, _| {
            let row = table::TABLE.iter().find(|row| row.flag == *flag);
            row.is_some_and(|row| row.scope == Scope::App || row.takes != ValueKind::Secret)
        });
        Defaults(Arc::new(values))
    }

    /// The values, for an app to begin with.
    pub(super) fn values(&self) -> Values {
        (*self.0).clone()
    }
}

/// The settings that say which apps a process has, if not the one of its settings, and where
/// the settings of those are written.
const SEVERAL: [(&str, &str); 2] = [
    ("apps", "write it into the list"),
    ("discover", "make it an annotation of the app's Service"),
];

/// Whether the settings are of a process with several apps.
pub(super) fn are_several(raw: &RawSettings) -> bool {
    let is_given = |(flag, _): &(&str, &str)| raw.values.contains_key(flag);
    raw.origin == Origin::CommandLine && SEVERAL.iter().any(is_given)
}

/// The errors about settings that are no default of several apps.
pub(super) fn refuse_beside_several(raw: &RawSettings) -> Vec<String> {
    let mut errors = Vec::new();
    let mut given = SEVERAL.iter().filter_map(|(flag, cure)| {
        let value = raw.values.get(flag)?.last()?;
        Some((value.name(), table::given(flag, Dialect::Zpa), cure))
    });
    let Some((name, several, cure)) = given.next() else {
        return errors;
    };
    if let Some((other, _, _)) = given.next() {
        errors.push(format!(
            "{name} and {other}: both say which apps there are; give one of them"
        ));
    }
    if raw.dialect != Dialect::Zpa {
        errors.push(format!(
            "{several}: goes with zpa's own flags, and these are of {}",
            raw.dialect
        ));
    }
    for flag in OF_ONE_APP {
        let given = raw.values.get(flag).and_then(|values| values.last());
        errors.extend(given.map(|value| {
            format!(
                "{value}: is of one app, and cannot be the default of several ({several}); {cure}"
            )
        }));
    }
    errors
}

impl Settings {
    /// The settings of each app of a list. `namespace` is that of apps for which none is
    /// given. The settings of the process are in those of each app too.
    ///
    /// # Errors
    /// All that is wrong in the list, a line each: with the app, the key, the value, the
    /// reason and an example.
    pub fn read_apps(&self, text: &[u8], namespace: &str) -> Result<Vec<Settings>, Errors> {
        let mut errors = Vec::new();
        let mut apps = Vec::new();
        for (place, entry) in entries(text)?.into_iter().enumerate() {
            let name = name(place, &entry);
            match self.read_app(entry) {
                Ok(app) => apps.push((name, in_namespace(app, namespace))),
                Err(Errors(lines)) => {
                    errors.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
                }
            }
        }
        errors.extend(clashes(&apps, self.admin_listen));
        if !errors.is_empty() {
            return Err(Errors(errors).shortened(MAX_ERRORS));
        }
        Ok(apps.into_iter().map(|(_, app)| app).collect())
    }

    fn read_app(&self, entry: Json) -> Result<Settings, Errors> {
        let Json::Object(pairs) = entry else {
            return Err(Errors(vec![format!(
                "is {}, and no object with settings; use e.g. {EXAMPLE_APP}",
                entry.kind()
            )]));
        };
        let mut entry = Entry::new(self.defaults.values());
        for (key, value) in pairs {
            entry.take(key, value);
        }
        entry.resolve()
    }
}

fn entries(text: &[u8]) -> Result<Vec<Json>, Errors> {
    if text.len() > MAX_LIST_LEN {
        let size = text.len();
        return Err(Errors(vec![format!(
            "the list has {size} bytes, and may have {MAX_LIST_LEN}"
        )]));
    }
    match serde_json::from_slice(text) {
        Ok(Json::List(entries)) if entries.len() > MAX_APPS => Err(Errors(vec![format!(
            "the list has {} apps, and may have {MAX_APPS}",
            entries.len()
        )])),
        Ok(Json::List(entries)) => Ok(entries),
        Ok(other) => Err(Errors(vec![format!(
            "is {} and no list of apps; use e.g. {EXAMPLE}",
            other.kind()
        )])),
        Err(why) => Err(Errors(vec![format!(
            "is no JSON: {why}; use e.g. {EXAMPLE}"
        )])),
    }
}

const EXAMPLE: &str = r#"[{"deployment": "my-app", "listen": ":8080"}]"#;
const EXAMPLE_APP: &str = r#"{"deployment": "my-app", "listen": ":8080"}"#;

/// What messages call an entry: its place, and what it scales, if that is said.
fn name(place: usize, entry: &Json) -> String {
    let number = place + 1;
    let Json::Object(pairs) = entry else {
        return format!("app {number}");
    };
    let target = pairs.iter().find_map(|(key, value)| match value {
        Json::Text(text) if TARGETS.contains(&key.as_str()) => Some(text),
        _ => None,
    });
    match target {
        Some(target) => format!("app {number} ({})", quote(target.as_ref())),
        None => format!("app {number}"),
    }
}

fn in_namespace(mut app: Settings, default: &str) -> Settings {
    app.namespace.get_or_insert_with(|| default.to_owned());
    app
}

/// One entry of the list, while it is read.
struct Entry {
    raw: RawSettings,
    /// The keys that it has.
    keys: Vec<String>,
}

impl Entry {
    fn new(defaults: Values) -> Entry {
        let mut raw = RawSettings::new(Dialect::Zpa);
        raw.origin = Origin::List;
        raw.values = defaults;
        Entry {
            raw,
            keys: Vec::new(),
        }
    }

    fn take(&mut self, key: String, value: Json) {
        let shown = quote(key.as_ref());
        let is_again = self.keys.contains(&key);
        let found = table::find(Dialect::Zpa, &key).filter(|(setting, _)| setting.flag == key);
        let error = match found {
            _ if is_again => Some(format!("{shown}: is there twice")),
            None => Some(match help::nearest_flag(Dialect::Zpa, &key, &[]) {
                Some(known) => format!("{shown}: there is no such setting; did you mean {known}?"),
                None => format!("{shown}: there is no such setting; zpa --help lists them"),
            }),
            Some((setting, _)) if setting.scope == Scope::Process => Some(format!(
                "{key}: belongs to the process and not to an app; give it as {setting}"
            )),
            Some((setting, _)) => self.take_value(setting, value).err(),
        };
        self.raw.errors.extend(error);
        self.keys.push(key);
    }

    fn take_value(&mut self, setting: &'static Setting, value: Json) -> Result<(), String> {
        let wrong = |value: &Json| {
            let several = match setting.takes {
                ValueKind::Texts => " or a list of texts",
                _ => "",
            };
            format!(
                "{}: is {}, where a text, a number, true or false{several} may be; use e.g. {}",
                setting.flag,
                value.kind(),
                setting.examples.join(", ")
            )
        };
        let values = match value {
            Json::List(values) if setting.takes == ValueKind::Texts => values,
            value => vec![value],
        };
        let texts = values.into_iter().map(|value| match value {
            Json::Text(text) | Json::Number(text) => Ok(text),
            Json::Bool(value) => Ok(value.to_string()),
            other => Err(wrong(&other)),
        });
        let values = texts.map(|text| Ok(RawValue::of_key(setting, text?)));
        let values: Vec<RawValue> = values.collect::<Result<_, String>>()?;
        self.raw.values.insert(setting.flag, values);
        Ok(())
    }

    fn resolve(mut self) -> Result<Settings, Errors> {
        if !self.keys.iter().any(|key| key == "listen") {
            let why = "listen: is not set, and each app of a list has its own; use e.g. :8080";
            self.raw.errors.push(why.to_owned());
        }
        resolve(self.raw)
    }
}

// --- What several apps cannot have in common ---

fn clashes(apps: &[(String, Settings)], admin: Option<SocketAddr>) -> Vec<String> {
    let mut errors = Vec::new();
    for (place, (name, app)) in apps.iter().enumerate() {
        let with_admin = clash_with_admin(app, admin);
        errors.extend(with_admin.map(|why| format!("{name}: {why}")));
        for (other_name, other) in &apps[..place] {
            errors.extend(clash(app, other).map(|why| format!("{name}: {why} {other_name} too")));
        }
    }
    errors
}

/// Why an app cannot listen where the admin port is.
pub fn clash_with_admin(app: &Settings, admin: Option<SocketAddr>) -> Option<String> {
    let admin = admin?;
    let mut listeners = app.listen.iter();
    let listener = listeners.find(|listener| overlap(listener.address, admin))?;
    Some(format!(
        "listen={listener}: is where the admin port is, which belongs to the process; use another \
         port, or give --admin-listen another"
    ))
}

/// What two apps have in common that they cannot, up to the name of the other.
pub fn clash(app: &Settings, other: &Settings) -> Option<String> {
    if app.namespace == other.namespace && app.target_ref == other.target_ref {
        return Some(format!("{}: is what is scaled by", app.target_ref));
    }
    if app.namespace == other.namespace && app.service == other.service {
        let service = app.service.as_deref().unwrap_or_default();
        return Some(format!("service={service}: is the Service of"));
    }
    let mut listeners = app.listen.iter();
    listeners.find_map(|listener| clash_at(listener, app, other))
}

/// The same at one listener. Apps with server names may share one.
fn clash_at(listener: &Listener, app: &Settings, other: &Settings) -> Option<String> {
    let mut others = other.listen.iter();
    let same = others.find(|it| overlap(it.address, listener.address))?;
    let mut both = [app, other].into_iter();
    if both.any(|app| app.server_names.is_empty()) {
        return Some(format!(
            "listen={listener}: needs another port, or a server-name in both, since that is of"
        ));
    }
    if same.address != listener.address {
        return Some(format!(
            "listen={listener}: needs to be {}, since apps share a port by server-name at one \
             address only, and that is of",
            same.address
        ));
    }
    let name = app.server_names.shared_with(&other.server_names)?;
    Some(format!(
        "server-name={name}: needs another name, or another port, since at {} that is of",
        same.address
    ))
}

/// Whether a kernel refuses the second of two addresses to listen on. An unspecified address
/// of IPv6 stands for IPv4 too.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, ip: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || ip.is_ipv4())
    };
    let is_same = one.ip().to_canonical() == other.ip().to_canonical();
    one.port() != 0
        && one.port() == other.port()
        && (is_same || covers(one, other) || covers(other, one))
}
