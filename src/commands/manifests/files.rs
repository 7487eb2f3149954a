//! Settings that name files: those of the proxy's container, where nothing is but what is mounted.

use super::Install;
use crate::commands::options::Options;
use crate::commands::yaml::Map;
use crate::kubeconfig_flags::KubeconfigFlags;
use crate::settings;

/// The settings that may name a file, and how: by a slash in the value, by an `@` before it in a
/// list, or in any case.
const NAMING_FILES: [(&str, Form); 5] = [
    ("hold-answer", Form::WithSlash),
    ("waiting-page", Form::WithSlash),
    ("ignore-sources", Form::BehindAt),
    ("deny-sources", Form::BehindAt),
    ("webhook-ca", Form::Always),
];

/// The name of the volume of a [`Mount`].
const VOLUME: &str = "files";

#[derive(Clone, Copy)]
enum Form {
    WithSlash,
    BehindAt,
    Always,
}

/// A ConfigMap that is mounted in the proxy's container.
pub struct Mount {
    config_map: String,
    directory: String,
}

impl Mount {
    /// The value of `--config-map`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(options: &Options) -> Result<Option<Mount>, String> {
        let Some(text) = options.value("--config-map") else {
            return Ok(None);
        };
        let (name, directory) = text.split_once(':').unwrap_or((text, ""));
        let directory = directory.trim_end_matches('/');
        let is_path = directory.starts_with('/') && !directory.contains(':');
        if !is_path || settings::dns_subdomain(name).is_err() {
            return Err(format!(
                "--config-map: {text:?} is not a ConfigMap and a directory; use e.g. \
                 my-app-zpa:/etc/zpa"
            ));
        }
        Ok(Some(Mount {
            config_map: name.to_owned(),
            directory: directory.to_owned(),
        }))
    }

    pub fn volume(&self) -> Map {
        let config_map = Map::new().set("name", self.config_map.as_str());
        Map::new().set("name", VOLUME).set("configMap", config_map)
    }

    pub fn mount(&self) -> Map {
        Map::new()
            .set("name", VOLUME)
            .set("mountPath", self.directory.as_str())
            .set("readOnly", true)
    }

    /// Whether the file is right in the directory: a ConfigMap has no directories.
    fn has(&self, file: &str) -> bool {
        let name = file.strip_prefix(&self.directory);
        let name = name.and_then(|it| it.strip_prefix('/'));
        name.is_some_and(|it| !it.is_empty() && !it.contains('/'))
    }
}

impl Form {
    fn files(self, value: &str) -> Vec<&str> {
        match self {
            Form::Always => vec![value],
            Form::WithSlash if value.contains('/') => vec![value],
            Form::WithSlash => Vec::new(),
            Form::BehindAt => {
                let entries = value.split(',').map(str::trim);
                entries.filter_map(|it| it.strip_prefix('@')).collect()
            }
        }
    }
}

/// Checks that the proxy has the files that its settings name.
///
/// # Errors
/// The setting whose file is not there.
pub fn check(install: &Install) -> Result<(), String> {
    if let Some(flag) = outside_a_cluster(install) {
        return Err(format!(
            "--{flag}: is for use outside a cluster; the proxy has its service account"
        ));
    }
    let is_there = |file: &str| install.mount.as_ref().is_some_and(|it| it.has(file));
    for (flag, value) in &install.variables {
        let form = NAMING_FILES.iter().find(|(name, _)| name == flag);
        let files = form.map_or(Vec::new(), |(_, form)| form.files(value));
        if let Some(file) = files.into_iter().find(|file| !is_there(file)) {
            return Err(format!(
                "--{flag}: the file {file} is none of the proxy's container: put it into a \
                 ConfigMap, e.g. kubectl create configmap my-files --from-file={file}, and give \
                 --config-map my-files:/etc/zpa and --{flag} with the file's name in /etc/zpa"
            ));
        }
    }
    Ok(())
}

/// The setting that says how the API server is reached, if that is not as in a pod.
fn outside_a_cluster(install: &Install) -> Option<&'static str> {
    let settings = &install.settings;
    if settings.kube != KubeconfigFlags::default() {
        return Some("kubeconfig");
    }
    let of_a_proxy = ["api-server", "credentials"];
    of_a_proxy
        .into_iter()
        .find(|flag| install.variables.iter().any(|(given, _)| given == flag))
}
