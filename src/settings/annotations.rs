//! The annotations of a Service that describe an app ([`Settings::read_annotations`]): the names
//! of settings after `zero-pod-autoscaler/`.
//!
//! They are read like a command line, by the same table and the same parsers, and what the
//! process was given of an app's settings is the default. Whoever may write them may write to
//! one Service, and not to the proxy: so no annotation names a file of the proxy, an address
//! that it dials in place of the pods or posts to, or another namespace.

use std::collections::BTreeMap;

use super::quote::quote;
use super::raw::{RawSettings, RawValue, texts};
use super::table::{self, Scope};
use super::{Errors, Origin, Settings, help, resolve};
use crate::rules::answer::HoldAnswer;
use crate::rules::waiting_page::WaitingPage;
use crate::workload::{ANNOTATION_PREFIX, Dialect};

/// The annotation that makes a Service an app.
pub const LISTEN: &str = "listen";

/// The most errors that are reported of one Service: whoever may annotate many of them could
/// have the proxy keep a hundred bytes for each two that they write.
const MAX_ERRORS: usize = 10;

/// The annotation that names what is scaled; the setting of that name is another one.
const TARGET: &str = "target";

/// The settings that no annotation is, with the cure.
const OTHERWISE: [(&str, &str); 6] = [
    ("namespace", "is the Service's own; take it away"),
    ("service", "is the Service itself; take it away"),
    (
        "deployment",
        "is written as zero-pod-autoscaler/target, e.g. deployments.apps/my-app",
    ),
    (
        "scale-target",
        "is written as zero-pod-autoscaler/target, e.g. statefulsets.apps/my-app",
    ),
    (
        "webhook",
        "is an address that the proxy connects to, and a secret, which no annotation is; give it \
         to the proxy, for all apps, as --webhook (ZPA_WEBHOOK)",
    ),
    (
        "backup-target",
        "is an address that the proxy connects clients to, which no annotation is; give it to the \
         proxy, for all apps, as --backup-target (ZPA_BACKUP_TARGET)",
    ),
];

impl Settings {
    /// The settings of the app that a Service describes by its annotations, whose names are
    /// without `zero-pod-autoscaler/`. The settings of the process are in them too.
    ///
    /// # Errors
    /// What is wrong in the annotations, at most ten lines and how many more: each with the
    /// annotation, the value, the reason and an example.
    pub fn read_annotations(
        &self,
        namespace: &str,
        service: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Settings, Errors> {
        let mut raw = RawSettings::new(Dialect::Zpa);
        raw.origin = Origin::Annotations;
        raw.values = self.defaults.values();
        let mut set = |flag: &'static str, value: &str| {
            let value = RawValue::of_annotation(flag, value.into());
            raw.values.insert(flag, vec![value]);
        };
        set("namespace", namespace);
        set("service", service);
        if !annotations.contains_key(TARGET) {
            set("deployment", service);
        }
        for (name, value) in annotations {
            take(&mut raw, name, value);
        }
        let settings = resolve(raw).map_err(|errors| errors.shortened(MAX_ERRORS))?;
        let rules = &settings.rules;
        let files = &rules.sources.files;
        let names_file = [
            ("ignore-sources", !files.ignored.is_empty(), "10.0.0.0/8"),
            ("deny-sources", !files.denied.is_empty(), "10.0.0.0/8"),
            (
                "hold-answer",
                matches!(rules.hold_answer, Some(HoldAnswer::File(_))),
                "postgres, http",
            ),
            (
                "waiting-page",
                matches!(rules.waiting_page, WaitingPage::File(_)),
                "built-in",
            ),
        ];
        for (name, is_file, instead) in names_file {
            if is_file && annotations.contains_key(name) {
                return Err(Errors(vec![format!(
                    "{ANNOTATION_PREFIX}{name}: names a file of the proxy, which an annotation \
                     may not; use e.g. {instead}"
                )]));
            }
        }
        Ok(settings)
    }
}

/// Takes in an annotation.
fn take(raw: &mut RawSettings, name: &str, value: &str) {
    let shown = quote(format!("{ANNOTATION_PREFIX}{name}").as_ref());
    if let Some((_, cure)) = OTHERWISE.iter().find(|(flag, _)| *flag == name) {
        return raw.errors.push(format!("{shown}: {cure}"));
    }
    let flag = if name == TARGET { "scale-target" } else { name };
    let found = table::find(Dialect::Zpa, flag).filter(|(setting, _)| setting.flag == flag);
    let Some((setting, _)) = found else {
        return raw
            .errors
            .push(match help::nearest_flag(Dialect::Zpa, name, &[]) {
                Some(known) => format!(
                    "{shown}: there is no such setting; did you mean {ANNOTATION_PREFIX}{known}?"
                ),
                None => format!("{shown}: there is no such setting; zpa --help lists them"),
            });
    };
    if setting.scope == Scope::Process {
        return raw.errors.push(format!(
            "{shown}: belongs to the process and not to an app; give it to the proxy as {setting}"
        ));
    }
    let shown_name = if name == TARGET { TARGET } else { setting.flag };
    let mut values = texts(setting, value.into());
    if values.is_empty() {
        values.push(value.into());
    }
    let values = values.into_iter();
    let values = values.map(|value| RawValue::of_annotation(shown_name, value));
    raw.values.insert(setting.flag, values.collect());
}
