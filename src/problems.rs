//! The problems that the page of an app shows, by a code that stays the same from version to
//! version and an explanation for `zpa explain`. Those that `zpa check` looks for have their
//! codes there.

/// The image of a container cannot be pulled.
pub const PULL: &str = "PULL";
/// A container ends again and again.
pub const CRASH: &str = "CRASH";
/// No node takes the pod.
pub const SCHEDULE: &str = "SCHEDULE";
/// A container cannot be created, for something that it needs.
pub const CONFIG: &str = "CONFIG";
/// The API server refuses to create pods.
pub const QUOTA: &str = "QUOTA";
/// A pod does not get ready, for no reason that is known.
pub const READINESS: &str = "READINESS";
/// Ready pods do not accept connections.
pub const REFUSED: &str = "REFUSED";
/// Every pod has as many connections as it may have.
pub const FULL: &str = "FULL";
/// The list of apps is wrong.
pub const LIST: &str = "LIST";
/// The proxy has panicked.
pub const PANIC: &str = "PANIC";

/// A problem.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// Its code.
    pub code: &'static str,
    /// The problem in one sentence.
    pub summary: &'static str,
    /// What it means.
    pub about: &'static str,
    /// How to mend it.
    pub hint: &'static str,
}

/// All of them.
pub static ALL: [Explanation; 10] = [
    Explanation {
        code: PULL,
        summary: "the image of a container cannot be pulled",
        about: "The kubelet gets no image: the name or the tag is wrong, the registry asks for \
                credentials that the pod does not have (imagePullSecrets), or it cannot be reached \
                from the node. The kubelet tries again, with pauses of up to five minutes.",
        hint: "kubectl describe pod shows the registry's answer; then kubectl set image",
    },
    Explanation {
        code: CRASH,
        summary: "a container ends again and again",
        about: "The app ends by itself soon after it has started. The kubelet starts it again, with \
                pauses of up to five minutes, so that a wake takes as long.",
        hint: "kubectl logs --previous shows why it ended",
    },
    Explanation {
        code: SCHEDULE,
        summary: "no node takes the pod",
        about: "No node has what the pod asks for: CPU, memory, a volume, a label or a toleration. A \
                cluster autoscaler may be adding one; else it waits for ever.",
        hint: "kubectl describe pod says how many nodes lack what",
    },
    Explanation {
        code: CONFIG,
        summary: "a container cannot be created",
        about: "Something that the pod refers to is missing or wrong: a ConfigMap, a Secret, a key of \
                theirs, a volume, a user id.",
        hint: "kubectl describe pod names it",
    },
    Explanation {
        code: QUOTA,
        summary: "the API server refuses to create pods",
        about: "A quota of the namespace is used up, its pod security standard or a webhook refuses \
                the pod, or its service account does not exist. The scale is written, and no pod is \
                made.",
        hint: "kubectl describe quota; kubectl get events shows the refusal",
    },
    Explanation {
        code: READINESS,
        summary: "no pod gets ready",
        about: "A pod is there, or is being made, and its readiness probe has not succeeded, or fewer \
                pods are ready than --min-ready asks for. With the \
                permission to read pods (zpa manifests --read-pods) the proxy says more.",
        hint: "kubectl describe pod shows the probe's failures, kubectl logs what the app does",
    },
    Explanation {
        code: REFUSED,
        summary: "ready pods do not accept connections",
        about: "The pods are listed as ready, and a connect to the Service's target port is refused \
                or not answered: the port is wrong, the app listens on localhost alone, a \
                NetworkPolicy does not admit the proxy's pods, or there is no readiness probe and \
                the app does not listen yet.",
        hint: "compare targetPort with the port of the app; admit the proxy in the NetworkPolicy",
    },
    Explanation {
        code: FULL,
        summary: "every pod has as many connections as it may have",
        about: "Each ready pod has --max-connections-per-pod connections, so that the others wait for \
                one to end. zpa never adds pods to an app that is awake.",
        hint: "raise --max-connections-per-pod or --wake-replicas, or let an HPA add pods",
    },
    Explanation {
        code: LIST,
        summary: "the list of apps is wrong",
        about: "The file of --apps has changed, and what is in it now is not valid. The list before it \
                is in force; a restart of the proxy would fail.",
        hint: "zpa check --apps FILE shows every error",
    },
    Explanation {
        code: PANIC,
        summary: "a thread of the proxy has panicked",
        about: "It was started again, and connections were not affected. It is a defect of zpa.",
        hint: "report the line of the log that has \"a bug: the thread\"",
    },
];

/// The code of what is wrong with a pod, by the reason that Kubernetes gives.
pub fn code_of_pod(reason: &str) -> &'static str {
    match reason {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => PULL,
        "CrashLoopBackOff" | "BackOff" => CRASH,
        "Unschedulable" => SCHEDULE,
        "Unhealthy" => READINESS,
        _ => CONFIG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_is_explained_once() {
        let codes: BTreeSet<_> = ALL.iter().map(|it| it.code).collect();
        let all = [
            PULL, CRASH, SCHEDULE, CONFIG, QUOTA, READINESS, REFUSED, FULL, LIST, PANIC,
        ];
        assert_eq!(codes, BTreeSet::from(all));
        assert_eq!(codes.len(), ALL.len());
    }
}
