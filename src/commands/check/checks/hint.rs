//! How to mend what a check has found: the commands, with the names of what was read.

use serde_json::Value;

use super::super::installed::InFront;
use super::Case;
use super::verdict::{
    self, group, image, last_applied, pod_labels, proxies, service as service_object,
    target as target_object, text,
};
use crate::duration;
use crate::problems;
use crate::settings::{self, Invocation, Origin, Settings};

/// A command of kubectl in a namespace.
pub(super) fn kubectl(namespace: &str, command: &str) -> String {
    format!("kubectl -n {namespace} {command}")
}

fn namespace<'a>(case: &Case<'a>) -> &'a str {
    case.settings.namespace.as_deref().unwrap_or_default()
}

/// The scale target as kubectl takes it: `deployments.apps/my-app`.
fn target_name(case: &Case<'_>) -> String {
    match case.settings.target_ref.name() {
        Some(_) => case.settings.target_ref.to_string(),
        None => {
            let object = target_object(case);
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            format!("{}/{name}", kind.to_ascii_lowercase())
        }
    }
}

pub(super) fn target(case: &Case<'_>) -> String {
    let name = case.settings.target_ref.to_string();
    let kind = name.split_once('/').map_or("deployments", |(kind, _)| kind);
    let listed = kubectl(namespace(case), &format!("get {kind}"));
    format!("{listed} shows what there is; name another namespace with --namespace")
}

pub(super) fn probe(case: &Case<'_>) -> String {
    let container = &target_object(case)["spec"]["template"]["spec"]["containers"][0];
    let named = &container["ports"][0]["containerPort"];
    let port = match named.is_null() {
        true => &service_object(case)["spec"]["ports"][0]["targetPort"],
        false => named,
    };
    if port.is_null() {
        return "add a readinessProbe to the pod template, or set --ready-gate accept".to_owned();
    }
    let patch = format!(
        r#"[{{"op":"add","path":"/spec/template/spec/containers/0/readinessProbe","value":{{"tcpSocket":{{"port":{port}}},"periodSeconds":1}}}}]"#
    );
    let target = target_name(case);
    let patch = kubectl(
        namespace(case),
        &format!("patch {target} --type=json -p '{patch}'"),
    );
    format!("{patch}\nor the same in its manifest; or --ready-gate accept")
}

pub(super) fn owner(case: &Case<'_>) -> String {
    let owner = verdict::owner(case).unwrap_or(&Value::Null);
    let (kind, group, name) = (text(&owner["kind"]), group(owner), text(&owner["name"]));
    let resources = format!("kubectl api-resources --api-group={group}");
    format!(
        "have {kind} {name} leave the replicas alone, or scale it in place of what it owns: \
         --scale-target PLURAL.{group}/{name}, with the plural of {kind} that {resources} shows"
    )
}

pub(super) fn replicas(case: &Case<'_>) -> String {
    let mut lines = vec![
        "take replicas out of the manifest; for Argo CD: ignoreDifferences with jsonPointers \
         [/spec/replicas], and the sync option RespectIgnoreDifferences=true"
            .to_owned(),
    ];
    if last_applied(case).is_some() {
        let command = format!("apply edit-last-applied {}", target_name(case));
        let command = kubectl(namespace(case), &command);
        lines.push(format!("{command} takes it out of what was applied last"));
    }
    lines.join("\n")
}

pub(super) fn autoscaler(case: &Case<'_>) -> String {
    let Some(found) = verdict::autoscaler(case) else {
        return String::new();
    };
    let name = text(&found["metadata"]["name"]);
    let patch = format!(r#"patch hpa {name} -p '{{"spec":{{"minReplicas":1}}}}'"#);
    kubectl(namespace(case), &patch)
}

pub(super) fn service(case: &Case<'_>) -> String {
    let listed = kubectl(namespace(case), "get services");
    format!("{listed} shows what there is; name it with --service")
}

pub(super) fn selector(case: &Case<'_>) -> String {
    let labels = pod_labels(target_object(case));
    let name = text(&service_object(case)["metadata"]["name"]);
    let edit = kubectl(namespace(case), &format!("edit service {name}"));
    format!(
        "{}\nor {edit}: its spec.selector has to be some of {labels}",
        service_of_pods(case)
    )
}

pub(super) fn service_of_pods(case: &Case<'_>) -> String {
    let labels = pod_labels(target_object(case));
    let listed = kubectl(namespace(case), "get services -o wide");
    format!("give the Service whose selector is some of {labels} with --service: {listed}")
}

// --- The proxies ---

pub(super) fn proxy(case: &Case<'_>) -> String {
    match proxies(case).first() {
        Some(unready) => of_unready(unready),
        None => install(case),
    }
}

pub(super) fn rollout(case: &Case<'_>) -> String {
    let mut lacking = proxies(case).iter();
    let lacking = lacking.find(|it| it.proxy.ready() < it.proxy.wanted());
    lacking.map(of_unready).unwrap_or_default()
}

/// What shows why a pod of the proxy is not ready, or mends that.
fn of_unready(it: &InFront) -> String {
    let (namespace, name) = (it.proxy.namespace(), it.proxy.name());
    if it.proxy.wanted() == 0 {
        return kubectl(namespace, &format!("scale deployment {name} --replicas=2"));
    }
    let code = it.problem.as_ref().map(|(code, _)| *code);
    let labels = &it.proxy.deployment["spec"]["selector"]["matchLabels"];
    let labels = labels.as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let selector = labels.collect::<Vec<_>>().join(",");
    match code {
        Some(problems::PULL) => {
            let container = text(&it.proxy.container()["name"]);
            let command = format!("set image deployment/{name} {container}=IMAGE");
            format!(
                "{}, with an image that the nodes can pull: no image of zpa is published\nsee: zpa \
                 explain {}",
                kubectl(namespace, &command),
                problems::PULL
            )
        }
        Some(code) if code != problems::CRASH => {
            let command = format!("describe pods -l {selector}");
            format!("{}\nsee: zpa explain {code}", kubectl(namespace, &command))
        }
        _ => kubectl(namespace, &format!("logs -l {selector} --tail=20")),
    }
}

/// How to install a proxy for the app.
fn install(case: &Case<'_>) -> String {
    let settings = case.settings;
    match settings.origin() {
        Origin::CommandLine => {
            let args = arguments(settings).join(" ");
            format!("zpa manifests {args} --image IMAGE | kubectl apply -f -")
        }
        Origin::List => {
            "kubectl apply -k a copy of manifests/example/list that has the apps".to_owned()
        }
        Origin::Annotations => {
            let place = namespace(case);
            format!("kubectl apply -n {place} -k manifests/fleet")
        }
    }
}

/// The arguments that make the settings of an app.
fn arguments(settings: &Settings) -> Vec<String> {
    let Ok(Invocation::Run(defaults)) = settings::parse(["--deployment=my-app".into()], |_| None)
    else {
        return Vec::new();
    };
    let is_own_name = settings.service.as_deref() == settings.target_ref.name();
    let rows = settings::in_force_of(settings::Scope::App, settings);
    let defaults = settings::in_force_of(settings::Scope::App, &defaults);
    let given = rows
        .zip(defaults)
        .filter_map(|((flag, value), (_, default))| {
            let is_given = match flag {
                "deployment" | "scale-target" => true,
                "service" => !is_own_name,
                _ => value != default,
            };
            let value = value.filter(|_| is_given)?;
            let quoted = match value
                .contains(|it: char| !it.is_ascii_alphanumeric() && !"-_.,=:/".contains(it))
            {
                true => format!("'{}'", value.replace('\'', r"'\''")),
                false => value,
            };
            Some(format!("--{flag} {quoted}"))
        });
    given.collect()
}

pub(super) fn idle_ttl(case: &Case<'_>) -> String {
    let ttl = |it: &InFront| it.app.as_ref().map(|app| app.idle_ttl);
    let longest = proxies(case).iter().filter_map(ttl).max();
    let shorter = proxies(case).iter().filter(|it| ttl(it) != longest);
    let commands = shorter.map(|it| {
        let ttl = longest.map(duration::display).unwrap_or_default();
        let command = format!("set env deployment/{} ZPA_IDLE_TTL={ttl}", it.proxy.name());
        kubectl(it.proxy.namespace(), &command)
    });
    commands.collect::<Vec<_>>().join("\n")
}

pub(super) fn image_of(case: &Case<'_>) -> String {
    let commands = proxies(case).iter().map(|it| {
        let (name, container) = (it.proxy.name(), text(&it.proxy.container()["name"]));
        let repository = image(it)
            .rsplit_once(':')
            .map_or(image(it), |(before, _)| before);
        let own = env!("CARGO_PKG_VERSION");
        let command = format!("set image deployment/{name} {container}={repository}:{own}");
        kubectl(it.proxy.namespace(), &command)
    });
    commands.collect::<Vec<_>>().join("\n")
}
