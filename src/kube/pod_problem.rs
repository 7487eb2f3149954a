//! [`diagnose`] reads a list of pods, and [`warning`] a list of Events about one of them: why they
//! do not get ready.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text::printable;
use crate::cluster::{Persistence, PodProblem};

/// The reasons for which a container waits, with whether waiting solves it
/// (`pkg/kubelet/images/types.go`, `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
const WAITING: [(&str, Persistence); 11] = [
    (PULL, Persistence::Repeats),
    ("ErrImageNeverPull", Persistence::Lasts),
    ("InvalidImageName", Persistence::Lasts),
    ("CreateContainerConfigError", Persistence::Lasts),
    (CRASH_LOOP, Persistence::Passes),
    ("ErrImagePull", Persistence::Passes),
    ("ImageInspectError", Persistence::Passes),
    ("RegistryUnavailable", Persistence::Passes),
    ("CreateContainerError", Persistence::Passes),
    ("RunContainerError", Persistence::Passes),
    ("PostStartHookError", Persistence::Passes),
];

const PULL: &str = "ImagePullBackOff";

const CRASH_LOOP: &str = "CrashLoopBackOff";

/// What a registry says of an image that it does not have, or does not give away.
const NO_IMAGE: [&str; 3] = ["not found", "manifest unknown", "denied"];

/// The reasons of Events that say why a pod is not ready although no status does.
const WARNINGS: [&str; 5] = [
    "Unhealthy",
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "BackOff",
];

/// A list of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The UIDs of those that are to be there.
    pub(super) uids: BTreeSet<String>,
    /// What they show.
    pub(super) diagnosis: Diagnosis,
}

/// What a list of pods shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Diagnosis {
    /// Nothing: there is no pod, or one is ready.
    Nothing,
    /// The statuses say it.
    Problem(PodProblem),
    /// No status says it, but Events about the pod may.
    Unexplained {
        /// The name of the pod.
        pod: String,
        /// Its UID.
        uid: String,
    },
}

/// What the list of pods in `body` shows; `None` if it is none.
pub(super) fn diagnose(body: &[u8]) -> Option<Listed> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let pods: Vec<&Value> = list["items"]
        .as_array()?
        .iter()
        .filter(|pod| is_current(pod))
        .collect();
    let uids = pods.iter().map(|pod| text(&pod["metadata"]["uid"]));
    Some(Listed {
        uids: uids.map(str::to_owned).collect(),
        diagnosis: diagnosis(&pods, &list),
    })
}

fn diagnosis(pods: &[&Value], list: &Value) -> Diagnosis {
    if pods.iter().any(|pod| is_ready(pod)) {
        return Diagnosis::Nothing;
    }
    let problems: Vec<PodProblem> = pods.iter().filter_map(|pod| problem(pod)).collect();
    // Of several pods one is enough. Those beyond the end of the list may be well.
    let is_part = !text(&list["metadata"]["continue"]).is_empty();
    let others_start = is_part || problems.len() < pods.len();
    let passing = problems
        .iter()
        .position(|it| it.persistence == Persistence::Passes);
    if let Some(problem) = problems.into_iter().nth(passing.unwrap_or(0)) {
        return Diagnosis::Problem(PodProblem {
            others_start,
            ..problem
        });
    }
    pods.first().map_or(Diagnosis::Nothing, |pod| {
        let metadata = |key: &str| text(&pod["metadata"][key]).to_owned();
        Diagnosis::Unexplained {
            pod: metadata("name"),
            uid: metadata("uid"),
        }
    })
}

/// The last warning of the list of Events in `body`, all of which are about the pod of that name.
pub(super) fn warning(body: &[u8], pod: &str, uid: &str) -> Option<PodProblem> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let known = |event: &Value| {
        let reason = text(&event["reason"]);
        WARNINGS.into_iter().find(|known| *known == reason)
    };
    let warnings = list["items"].as_array()?.iter();
    let warnings = warnings.filter_map(|event| Some((time(event), known(event)?, event)));
    let (_, reason, event) = warnings.max_by_key(|(at, ..)| *at)?;
    Some(PodProblem {
        reason,
        text: sentence(pod, "", reason, text(&event["message"])),
        uid: uid.to_owned(),
        persistence: Persistence::Passes,
        others_start: false,
    })
}

/// When an Event was seen last. RFC 3339 in UTC can be compared as text.
fn time(event: &Value) -> &str {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
    ];
    times
        .into_iter()
        .map(text)
        .find(|it| !it.is_empty())
        .unwrap_or_default()
}

/// Whether the pod is to be there: it neither ends nor has ended.
fn is_current(pod: &Value) -> bool {
    let has_ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
    pod["metadata"]["deletionTimestamp"].is_null() && !has_ended
}

/// Whether the pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)
}

/// What the status of a pod says.
fn problem(pod: &Value) -> Option<PodProblem> {
    let [name, uid] = ["name", "uid"].map(|key| text(&pod["metadata"][key]));
    let of = |key: &str| pod["status"][key].as_array().into_iter().flatten();
    let containers = of("initContainerStatuses").chain(of("containerStatuses"));
    if let Some(problem) = containers.filter_map(|it| waiting(name, uid, it)).next() {
        return Some(problem);
    }
    let scheduled = condition(pod, "PodScheduled")?;
    let is_unschedulable = scheduled["status"] == "False" && scheduled["reason"] == "Unschedulable";
    is_unschedulable.then(|| PodProblem {
        reason: "Unschedulable",
        text: sentence(name, "", "Unschedulable", text(&scheduled["message"])),
        uid: uid.to_owned(),
        // An autoscaler of nodes may bring one.
        persistence: Persistence::Passes,
        others_start: false,
    })
}

/// Why a container waits, if it is for one of the known reasons.
fn waiting(pod: &str, uid: &str, container: &Value) -> Option<PodProblem> {
    let waiting = &container["state"]["waiting"];
    let given = text(&waiting["reason"]);
    let (reason, persistence) = WAITING.into_iter().find(|(known, _)| *known == given)?;
    let restarts = container["restartCount"].as_u64().unwrap_or(0);
    let message = text(&waiting["message"]);
    let (persistence, message) = match reason {
        CRASH_LOOP => (Persistence::Restarts(restarts), crash(container, restarts)),
        PULL if NO_IMAGE.iter().any(|it| message.contains(it)) => {
            (Persistence::Lasts, message.to_owned())
        }
        _ => (persistence, message.to_owned()),
    };
    Some(PodProblem {
        reason,
        text: sentence(pod, text(&container["name"]), reason, &message),
        uid: uid.to_owned(),
        persistence,
        others_start: false,
    })
}

/// How the container ended the last time. Not what it wrote then, which may be a secret: the text
/// goes to Events, to the page and to the webhook.
fn crash(container: &Value, restarts: u64) -> String {
    let ended = &container["lastState"]["terminated"];
    let times = match restarts {
        1 => "1 restart".to_owned(),
        _ => format!("{restarts} restarts"),
    };
    match ended["exitCode"].as_i64() {
        Some(code) => {
            let reason = text(&ended["reason"]);
            format!("{times}, ended with exit code {code} ({reason})")
        }
        None => times,
    }
}

fn sentence(pod: &str, container: &str, reason: &str, message: &str) -> String {
    let container = match container {
        "" => String::new(),
        name => format!(", container {name}"),
    };
    printable(&format!("pod {pod}{container}: {reason}: {message}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(pods: &[Value]) -> Vec<u8> {
        json!({ "kind": "PodList", "items": pods })
            .to_string()
            .into()
    }

    fn pod(name: &str, status: Value) -> Value {
        json!({ "metadata": { "name": name, "uid": format!("uid of {name}") }, "status": status })
    }

    fn shown(body: &[u8]) -> Option<Diagnosis> {
        diagnose(body).map(|listed| listed.diagnosis)
    }

    /// A pod whose container waits for that reason.
    fn waits(reason: &str, message: &str, restarts: u64) -> Value {
        pod(
            "a",
            json!({ "phase": "Pending", "containerStatuses": [{
                "name": "web",
                "restartCount": restarts,
                "state": { "waiting": { "reason": reason, "message": message } },
                "lastState": { "terminated": { "exitCode": 1, "reason": "Error", "message": "no db" } },
            }] }),
        )
    }

    fn ready() -> Value {
        pod(
            "b",
            json!({ "conditions": [{ "type": "Ready", "status": "True" }] }),
        )
    }

    #[test]
    fn the_reason_of_a_pod_is_found_with_whether_waiting_solves_it() {
        let unschedulable = pod(
            "a",
            json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
                "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available" }] }),
        );
        let mut of_init = waits("ImagePullBackOff", "Back-off", 0);
        let statuses = of_init["status"]["containerStatuses"].take();
        of_init["status"]["initContainerStatuses"] = statuses;
        for (pod, text, persistence) in [
            (
                waits("ImagePullBackOff", "Back-off pulling image \"x\"", 0),
                "pod a, container web: ImagePullBackOff: Back-off pulling image \"x\"",
                Persistence::Repeats,
            ),
            (
                of_init,
                "pod a, container web: ImagePullBackOff: Back-off",
                Persistence::Repeats,
            ),
            (
                waits("ErrImagePull", "not\nfound", 0),
                "pod a, container web: ErrImagePull: not\\nfound",
                Persistence::Passes,
            ),
            (
                waits("ErrImageNeverPull", "", 0),
                "pod a, container web: ErrImageNeverPull:",
                Persistence::Lasts,
            ),
            (
                waits("InvalidImageName", "bad", 0),
                "pod a, container web: InvalidImageName: bad",
                Persistence::Lasts,
            ),
            (
                waits("CreateContainerConfigError", "secret \"x\" not found", 0),
                "pod a, container web: CreateContainerConfigError: secret \"x\" not found",
                Persistence::Lasts,
            ),
            (
                waits(CRASH_LOOP, "back-off", 2),
                "pod a, container web: CrashLoopBackOff: 2 restarts, ended with exit code 1 \
                 (Error)",
                Persistence::Restarts(2),
            ),
            (
                waits(CRASH_LOOP, "back-off", 3),
                "pod a, container web: CrashLoopBackOff: 3 restarts, ended with exit code 1 \
                 (Error)",
                Persistence::Restarts(3),
            ),
            (
                unschedulable,
                "pod a: Unschedulable: 0/3 nodes are available",
                Persistence::Passes,
            ),
        ] {
            let Some(Diagnosis::Problem(problem)) = shown(&list(&[pod])) else {
                panic!("{text}");
            };
            assert_eq!((&*problem.text, problem.persistence), (text, persistence));
            assert!(text.contains(problem.reason), "{text}");
        }
    }

    #[test]
    fn what_is_on_its_way_is_no_problem_and_one_pod_that_may_start_is_enough() {
        let starting = waits("ContainerCreating", "", 0);
        let broken = || waits("ImagePullBackOff", "", 0);
        let unexplained = Diagnosis::Unexplained {
            pod: "a".to_owned(),
            uid: "uid of a".to_owned(),
        };
        let mut ending = broken();
        ending["metadata"]["deletionTimestamp"] = json!("2026-11-29T12:00:00Z");
        let ended = pod("c", json!({ "phase": "Failed" }));
        for (label, pods, expected) in [
            ("none", vec![], Diagnosis::Nothing),
            (
                "an old one",
                vec![ending.clone(), ended],
                Diagnosis::Nothing,
            ),
            ("one is ready", vec![broken(), ready()], Diagnosis::Nothing),
            ("one starts", vec![starting.clone()], unexplained),
        ] {
            assert_eq!(shown(&list(&pods)), Some(expected), "{label}");
        }
        let uids = diagnose(&list(&[ready(), ending])).unwrap().uids;
        assert_eq!(uids, ["uid of b".to_owned()].into());
        let problem = |pods: &[Value]| match shown(&list(pods)) {
            Some(Diagnosis::Problem(problem)) => problem,
            other => panic!("{other:?}"),
        };
        let pull = |text: &str| problem(&[waits(PULL, text, 0)]).persistence;
        assert_eq!(pull("429 Too Many Requests"), Persistence::Repeats);
        assert_eq!(pull("x: not found"), Persistence::Lasts);
        assert!(!problem(&[broken(), broken()]).others_start);
        assert!(problem(&[broken(), starting.clone()]).others_start);
        let passing = problem(&[broken(), waits("ErrImagePull", "", 0)]);
        assert_eq!(passing.persistence, Persistence::Passes);
        let part = json!({ "items": [broken()], "metadata": { "continue": "x" } });
        let Some(Diagnosis::Problem(first)) = shown(part.to_string().as_bytes()) else {
            panic!("a problem");
        };
        assert!(first.others_start, "those beyond the end may be well");
        for body in ["", "{}", "[]", r#"{"items":7}"#] {
            assert_eq!(shown(body.as_bytes()), None, "{body}");
        }
        assert_eq!(
            shown(br#"{"items":[7,null]}"#).unwrap(),
            Diagnosis::Unexplained {
                pod: String::new(),
                uid: String::new(),
            }
        );
    }

    #[test]
    fn the_last_warning_about_a_pod_says_which_probe_fails() {
        let event = |reason: &str, message: &str, at: Value| {
            let mut event = at;
            event["reason"] = reason.into();
            event["message"] = message.into();
            event
        };
        let probe = "Readiness probe failed: HTTP probe failed with statuscode: 503";
        let events = list(&[
            event(
                "FailedMount",
                "x",
                json!({ "lastTimestamp": "2026-11-29T12:00:00Z" }),
            ),
            event(
                "Unhealthy",
                probe,
                json!({ "lastTimestamp": "2026-11-29T12:00:09Z" }),
            ),
            event(
                "BackOff",
                "y",
                json!({ "lastTimestamp": null, "eventTime": "2026-11-29T12:00:01.000000Z" }),
            ),
            event(
                "Other",
                "z",
                json!({ "lastTimestamp": "2026-11-29T13:00:00Z" }),
            ),
        ]);
        let found = warning(&events, "a", "7").unwrap();
        assert_eq!(found.reason, "Unhealthy");
        assert_eq!(found.text, format!("pod a: Unhealthy: {probe}"));
        assert_eq!((&*found.uid, found.persistence), ("7", Persistence::Passes));
        assert_eq!(warning(&list(&[]), "a", "7"), None);
    }
}
