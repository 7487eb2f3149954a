//! The table of the checks.

use super::hint;
use super::permissions;
use super::ports;
use super::verdict;
use super::{Check, DISCOVERY, Examine, Need, PERMISSION, Severity};

/// All checks, in the order of the report.
pub static CHECKS: [Check; 19] = [
    Check {
        code: "API",
        category: "kubernetes",
        description: "the API server answers",
        severity: Severity::Fatal,
        is_transient: true,
        needs: &[],
        examine: Examine::Cluster(verdict::answers),
        hint: |_| String::new(),
        mend: "kubectl version; --context, --kubeconfig or --api-server name another one",
        about: "GET /version. The address and the credentials are found as for the proxy: flags, \
                a kubeconfig, or the service account of a pod.",
    },
    Check {
        code: "VERSION",
        category: "kubernetes",
        description: "Kubernetes is 1.21 or later",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[],
        examine: Examine::Cluster(verdict::is_recent),
        hint: |_| String::new(),
        mend: "update the cluster",
        about: "What zpa reads and what its manifests have (discovery.k8s.io/v1, policy/v1) is there \
                since Kubernetes 1.21. HPAs are looked at since 1.23.",
    },
    Check {
        code: "TARGET",
        category: "app",
        description: "what is to be scaled exists",
        severity: Severity::Fatal,
        is_transient: true,
        needs: &[],
        examine: Examine::App(|case| verdict::exists(&case.facts.target)),
        hint: hint::target,
        mend: "name it with --deployment or --scale-target, and its namespace with --namespace",
        about: "The object of --deployment or --scale-target, in the namespace.",
    },
    Check {
        code: "PROBE",
        category: "app",
        description: "its pods have a readiness probe",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Target, Need::Template],
        examine: Examine::App(verdict::has_probe),
        hint: hint::probe,
        mend: "add a readinessProbe to the pod template, or set --ready-gate accept",
        about: "Without a readiness probe Kubernetes lists a pod as ready as soon as its containers \
                run, before they listen: held connections are then dialled in vain and again until \
                one is taken.",
    },
    Check {
        code: "OWNER",
        category: "app",
        description: "no other controller owns it",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Target],
        examine: Examine::App(verdict::has_no_owner),
        hint: hint::owner,
        mend: "scale the owner, with --scale-target, or have it leave the replicas alone",
        about: "A controller that owns the object, such as an operator, is likely to scale it back.",
    },
    Check {
        code: "REPLICAS",
        category: "app",
        description: "nothing that is applied sets its replicas",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Target],
        examine: Examine::App(verdict::is_not_applied),
        hint: hint::replicas,
        mend: "take replicas out of the manifest; for Argo CD see ignoreDifferences",
        about: "Where a manifest with replicas is applied again, by hand or by a GitOps tool, the \
                app wakes, or sleeps under its clients. The object's managedFields say who has \
                written the field, until zpa writes it; the annotation last-applied-configuration \
                of kubectl apply says it after that too.",
    },
    Check {
        code: "HPA",
        category: "app",
        description: "no HPA scales it to or from zero",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Target, Need::Autoscalers],
        examine: Examine::App(verdict::no_autoscaler_at_zero),
        hint: hint::autoscaler,
        mend: "set minReplicas of the HPA to 1 or more",
        about: "An HPA with minReplicas of 1 or more ignores what is at zero. With minReplicas 0 it \
                scales to and from zero by itself.",
    },
    Check {
        code: "SERVICE",
        category: "service",
        description: "the app's Service exists",
        severity: Severity::Fatal,
        is_transient: true,
        needs: &[Need::Pods],
        examine: Examine::App(|case| verdict::exists(&case.facts.service)),
        hint: hint::service,
        mend: "name it with --service",
        about: "The Service whose pods are dialled: --service, by default the name of what is scaled.",
    },
    Check {
        code: "SELECTOR",
        category: "service",
        description: "the Service selects the pods that are scaled",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[Need::Pods, Need::Service, Need::Target, Need::Template],
        examine: Examine::App(verdict::selects_the_pods),
        hint: hint::selector,
        mend: "compare spec.selector of the Service with the labels of the pod template",
        about: "If the Service selects other pods, no address gets ready however the app is scaled.",
    },
    Check {
        code: "LOOP",
        category: "service",
        description: "the Service does not lead to the proxy itself",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[Need::Pods, Need::Service, Need::Deployments],
        examine: Examine::App(verdict::does_not_lead_back),
        hint: hint::service_of_pods,
        mend: "give the Service of the app's own pods with --service",
        about: "If the Service leads back to the proxy, each connection would be dialled by the \
                proxy to itself. It refuses to, and nobody is served.",
    },
    Check {
        code: "PORT",
        category: "service",
        description: "it is clear which port of the Service is meant",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[Need::Pods, Need::Service],
        examine: Examine::App(ports::has_the_ports),
        hint: ports::hint,
        mend: "give it with --port, by name or number, or each with --listen 8080=http,8082=sql",
        about: "A Service with several ports takes --port, or --listen with a port of the Service for \
                each address.",
    },
    Check {
        code: "PROXY",
        category: "proxy",
        description: "a proxy in front of the app is ready",
        severity: Severity::Fatal,
        is_transient: true,
        needs: &[Need::Installed],
        examine: Examine::App(verdict::is_ready),
        hint: hint::proxy,
        mend: "zpa manifests prints one for kubectl apply; the log of one that is not ready says why",
        about: "A Deployment whose container runs zpa, or one of the programs that it replaces, with \
                settings that name the app, or with a list or a label selector that has it; and a \
                ready replica of it. Where pods may be listed it is said why none is ready: the code \
                in the text has an explanation too. /readyz of a pod has its own reasons.",
    },
    Check {
        code: "ROLLOUT",
        category: "proxy",
        description: "all replicas of the proxies are ready",
        severity: Severity::Warning,
        is_transient: true,
        needs: &[Need::Installed, Need::Deployments, Need::Proxy],
        examine: Examine::App(verdict::all_are_ready),
        hint: hint::rollout,
        mend: "kubectl rollout status, kubectl describe pods",
        about: "One ready replica serves all clients. With a second one they are served while a node \
                is drained, and while the proxy is updated.",
    },
    Check {
        code: "LOWPORT",
        category: "proxy",
        description: "the proxies may listen on their ports",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Installed, Need::Deployments, Need::Proxy],
        examine: Examine::App(ports::may_listen),
        hint: ports::hint_of_low_port,
        mend: "set the sysctl net.ipv4.ip_unprivileged_port_start to 0 in securityContext of the pod",
        about: "The image runs as user 65532, for which a port below 1024 is open only with a sysctl, \
                which Kubernetes counts among the safe ones, or on containerd 2.0 and later. A proxy \
                that is ready listens. zpa manifests sets the sysctl where it is needed.",
    },
    Check {
        code: "TTL",
        category: "proxy",
        description: "all proxies in front of the app have one idle TTL",
        severity: Severity::Warning,
        is_transient: false,
        needs: &[Need::Installed, Need::Deployments, Need::Proxy],
        examine: Examine::App(verdict::one_idle_ttl),
        hint: hint::idle_ttl,
        mend: "give all of them the same --idle-ttl",
        about: "A lease holds for the TTL of the proxy that renews it. Proxies with shorter ones \
                respect it, and put the app to sleep later than set.",
    },
    Check {
        code: "IMAGE",
        category: "proxy",
        description: "all proxies in front of the app are of this version",
        severity: Severity::Warning,
        is_transient: true,
        needs: &[Need::Installed, Need::Deployments, Need::Proxy],
        examine: Examine::App(verdict::one_image),
        hint: hint::image_of,
        mend: "kubectl set image",
        about: "Proxies of different versions agree as far as both know the same rules, and a check \
                knows the rules of its own version. The images are compared, and a tag that is a \
                version with that of the zpa that checks.",
    },
    Check {
        code: PERMISSION,
        category: "permissions",
        description: "the proxy has its permissions",
        severity: Severity::Fatal,
        is_transient: true,
        needs: &[],
        examine: Examine::Each(permissions::of_proxies),
        hint: |_| String::new(),
        mend: "give the rule that is printed to a Role that is bound to the service account",
        about: "The proxy's service account needs each permission of the Role that zpa manifests \
                prints; those without which it does something lesser are warnings. In a pod its own \
                are asked for (SelfSubjectAccessReview); elsewhere those of the service accounts of \
                the proxies that are found, or of --service-account: by LocalSubjectAccessReview, or \
                of all namespaces by SubjectAccessReview, with the groups of a service account. To \
                ask that takes the permission to create those.",
    },
    Check {
        code: "INSTALL",
        category: "permissions",
        description: "you may create the objects of a proxy",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[],
        examine: Examine::Each(permissions::of_installer),
        hint: |_| String::new(),
        mend: "have somebody apply the output of zpa manifests who may",
        about: "With --pre and outside of a pod: whether you may create a Deployment, a Service, a \
                Role and what else zpa manifests prints (SelfSubjectAccessReview). To create a Role \
                one also needs each permission that it grants, or the verb escalate on roles.",
    },
    Check {
        code: DISCOVERY,
        category: "services",
        description: "the annotations of the Services describe apps",
        severity: Severity::Fatal,
        is_transient: false,
        needs: &[],
        examine: Examine::Services,
        hint: |_| String::new(),
        mend: "kubectl annotate --overwrite service NAME zero-pod-autoscaler/SETTING=VALUE",
        about: "With --discover, each Service that the label selector selects and that has the \
                annotation zero-pod-autoscaler/listen is an app, and its annotations \
                zero-pod-autoscaler/SETTING are the settings. Of two that ask for one port or one \
                target the older Service has it.",
    },
];
