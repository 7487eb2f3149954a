//! `zpa manifests` prints what the base and the overlay of the example come to, and
//! what its options say; kubectl reads it. The tests of all manifests are for these
//! too.

use std::ffi::OsString;

use serde_json::{Value, json};
use zpa::clock::Time;
use zpa::commands::{self, Environment, Output};
use zpa::settings::{self, Invocation};

use crate::{OVERLAY, find, read, rendered, text};

/// The command, where the others have their directory.
pub const COMMAND: &str = "zpa manifests";

fn run(args: &[&str]) -> Output {
    let args: Vec<OsString> = [&["manifests"], args]
        .concat()
        .iter()
        .map(OsString::from)
        .collect();
    let environment = Environment {
        env: &|_| None,
        clock: Time::default,
        wall: || 0,
        is_terminal: false,
    };
    commands::run(&args, &environment).expect("it is a command")
}

/// What is printed for these arguments.
pub fn yaml(args: &[&str]) -> String {
    printed(args).unwrap_or_else(|errors| panic!("{args:?}: {errors:?}"))
}

/// The same, or what is wrong with them.
pub fn printed(args: &[&str]) -> Result<String, Vec<String>> {
    match run(args) {
        Output::Text(yaml) => Ok(yaml),
        Output::Errors(errors) => Err(errors),
        Output::Report { .. } => panic!("{args:?}: a report"),
    }
}

/// What is printed, as kubectl reads it; none without kubectl.
pub fn objects(args: &[&str]) -> Option<Vec<Value>> {
    read(yaml(args).as_bytes())
}

/// The objects in one order, with the variables of the proxy's container replaced by
/// what they come to: 5m and 5m0s are the same.
pub(super) fn comparable(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        let Some(env) = object.pointer_mut("/spec/template/spec/containers/0/env") else {
            continue;
        };
        let value = |name: &str| {
            let mut variables = env.as_array()?.iter();
            let variable = variables.find(|it| it["name"] == name)?;
            variable["value"].as_str().map(OsString::from)
        };
        let Ok(Invocation::Run(settings)) = settings::parse([], value) else {
            panic!("{env}");
        };
        let variables = env.as_array().into_iter().flatten();
        let of_the_pod = variables.filter(|it| it["valueFrom"].is_object());
        let of_the_pod: Vec<Value> = of_the_pod.cloned().collect();
        assert_eq!(of_the_pod.len(), 2, "the zone and the node");
        *env = json!([
            settings::in_force(&settings).collect::<Vec<_>>(),
            of_the_pod
        ]);
    }
    objects.sort_by_key(|it| [&it["kind"], &it["metadata"]["name"]].map(Value::to_string));
    objects
}

#[test]
fn it_prints_what_the_base_with_the_overlay_of_the_example_comes_to() {
    let Some(written) = rendered(OVERLAY) else {
        return;
    };
    let generated = objects(&["--deployment=my-app", "--idle-ttl=30s"]).unwrap();
    let (generated, written) = (comparable(generated), comparable(written));
    for (generated, written) in generated.iter().zip(&written) {
        assert_eq!(generated, written);
    }
    assert_eq!(generated.len(), written.len());
}

#[test]
fn every_setting_that_is_given_is_a_variable_of_the_container() {
    let args = [
        "--deployment=postgres",
        "--service=db",
        "--port=sql",
        "--idle-ttl=20m",
        "--wake-replicas=previous",
        "--abort-on-close",
        "--namespace=shop",
        "--connect-timeout=3s",
    ];
    let Some(objects) = objects(&args) else {
        return;
    };
    for object in &objects {
        assert_eq!(
            object["metadata"]["namespace"], "shop",
            "{}",
            object["kind"]
        );
    }
    let deployment = find(&objects, "Deployment", "postgres-zpa");
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let env: Vec<String> = env
        .as_array()
        .unwrap()
        .iter()
        .map(|it| match it["value"].as_str() {
            Some(value) => format!("{}={value}", text(&it["name"])),
            None => format!(
                "{} of {}",
                text(&it["name"]),
                it["valueFrom"]["fieldRef"]["fieldPath"]
            ),
        })
        .collect();
    assert_eq!(
        env,
        [
            "ZPA_DEPLOYMENT=postgres",
            "ZPA_SERVICE=db",
            "ZPA_PORT=sql",
            "ZPA_IDLE_TTL=20m0s",
            "ZPA_HOLD_TIMEOUT=5m0s",
            "ZPA_ABORT_ON_CLOSE=true",
            "ZPA_CONNECT_TIMEOUT=3s",
            "ZPA_WAKE_REPLICAS=previous",
            "ZPA_MAX_CONNECTIONS=10000",
            "ZPA_DRAIN_DELAY=5s",
            "ZPA_DRAIN_TIMEOUT=20s",
            "ZPA_LOG=info",
            "ZPA_ZONE of \"metadata.labels['topology.kubernetes.io/zone']\"",
            "ZPA_NODE of \"spec.nodeName\"",
        ]
    );
    let rules = &find(&objects, "Role", "postgres-zpa")["rules"];
    assert_eq!(rules[2]["resourceNames"], json!(["db"]));
}

#[test]
fn the_options_add_what_they_say() {
    let args = [
        "--deployment=my-app",
        "--image=registry.example.com/zpa:1",
        "--replicas=3",
        "--service-port=5432",
        "--network-policy",
        "--metrics-from=prometheus",
        "--pod-monitor",
        "--tcp-route=edge",
        "--openshift",
        "--listen=:80",
        "--max-connections=1000",
        "--drain-timeout=1m",
    ];
    let Some(objects) = objects(&args) else {
        return;
    };
    let deployment = &find(&objects, "Deployment", "my-app-zpa")["spec"];
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(deployment["replicas"], 3);
    assert_eq!(container["image"], "registry.example.com/zpa:1");
    assert_eq!(container["resources"]["limits"]["memory"], "64Mi");
    assert_eq!(pod["terminationGracePeriodSeconds"], 70);
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
            "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }],
        })
    );
    let service = find(&objects, "Service", "my-app-zpa");
    assert_eq!(service["spec"]["ports"][0]["port"], 5432);
    let policy = &find(&objects, "NetworkPolicy", "my-app-zpa")["spec"];
    let from = &policy["ingress"][1]["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(
        *from,
        json!({ "kubernetes.io/metadata.name": "prometheus" })
    );
    let monitor = &find(&objects, "PodMonitor", "my-app-zpa")["spec"];
    assert_eq!(monitor["selector"], deployment["selector"]);
    let route = &find(&objects, "TCPRoute", "my-app-zpa")["spec"];
    assert_eq!(route["parentRefs"], json!([{ "name": "edge" }]));
    let backend = json!([{ "name": "my-app-zpa", "port": 5432 }]);
    assert_eq!(route["rules"], json!([{ "backendRefs": backend }]));
}

#[test]
fn each_listener_of_a_list_has_a_port_of_pod_service_policy_and_route() {
    let args = [
        "--deployment=my-app",
        "--listen=8080=http,5432=postgres,9000=9090",
        "--network-policy",
        "--tcp-route=edge:web,gateways/edge:sql,other",
    ];
    let Some(objects) = objects(&args) else {
        return;
    };
    let pod = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["ports"],
        json!([
            { "name": "http", "containerPort": 8080 },
            { "name": "postgres", "containerPort": 5432 },
            { "name": "proxy-9000", "containerPort": 9000 },
            { "name": "admin", "containerPort": 8081 },
        ])
    );
    assert_eq!(
        find(&objects, "Service", "my-app-zpa")["spec"]["ports"],
        json!([
            { "name": "http", "port": 8080, "targetPort": "http" },
            { "name": "postgres", "port": 5432, "targetPort": "postgres" },
            { "name": "proxy-9000", "port": 9090, "targetPort": "proxy-9000" },
        ])
    );
    let policy = &find(&objects, "NetworkPolicy", "my-app-zpa")["spec"];
    let admitted = json!([{ "port": "http" }, { "port": "postgres" }, { "port": "proxy-9000" }]);
    assert_eq!(policy["ingress"][0]["ports"], admitted);
    for (at, (name, port)) in [("http", 8080), ("postgres", 5432), ("proxy-9000", 9090)]
        .into_iter()
        .enumerate()
    {
        let route = &find(&objects, "TCPRoute", &format!("my-app-zpa-{name}"))["spec"];
        assert_eq!(route["rules"][0]["backendRefs"][0]["port"], port);
        let parents = [
            json!([{ "name": "edge", "sectionName": "web" }]),
            json!([{ "namespace": "gateways", "name": "edge", "sectionName": "sql" }]),
            json!([{ "name": "other" }]),
        ];
        assert_eq!(route["parentRefs"], parents[at]);
    }
}

#[test]
fn other_kinds_get_the_permissions_that_their_leases_need() {
    let rules = |args: &[&str]| {
        let objects = objects(args)?;
        let rules = find(&objects, "Role", "db-zpa")["rules"]
            .as_array()?
            .clone();
        let of_target = rules
            .into_iter()
            .filter(|rule| rule["resourceNames"] == json!(["db"]));
        let short = of_target.map(|rule| {
            let part = |name: &str| rule[name].as_array().unwrap().clone();
            let names = |name: &str| {
                let names = part(name).into_iter().map(|it| text(&it).to_owned());
                names.collect::<Vec<_>>().join(",")
            };
            format!(
                "{} {} {}",
                names("apiGroups"),
                names("resources"),
                names("verbs")
            )
        });
        Some(short.collect::<Vec<_>>())
    };
    let stateful = ["--scale-target=statefulsets.apps/db", "--service=app"];
    let Some(several) = rules(&stateful) else {
        return;
    };
    assert_eq!(
        several,
        [
            "apps statefulsets get,list,watch",
            "apps statefulsets/scale patch",
            "apps statefulsets patch",
        ]
    );
    let single = rules(&[&stateful[..], &["--single-proxy"]].concat()).unwrap();
    assert_eq!(
        single,
        [
            "apps statefulsets get,list,watch",
            "apps statefulsets/scale patch"
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_in_one_line_each() {
    for (args, expected) in [
        (&[][..], "--deployment (ZPA_DEPLOYMENT): is not set"),
        (&["--deployment=a", "--idle-ttl=soon"], "not a duration"),
        (
            &["--deployment=a", "--replicas=0"],
            "--replicas: 0 is not a number from 1 to 1000",
        ),
        (&["--deployment=a", "--name=A"], "--name: \"A\""),
        (
            &["--deployment=a", "--admin-listen=off"],
            "--admin-listen: the kubelet's probes",
        ),
        (
            &["--deployment=a", "--token=secret-token"],
            "is for use outside a cluster",
        ),
        (
            &["--deployment=a", "--webhook=https://a/secret-token"],
            "no part of manifests: put it into a Secret",
        ),
        (&["--selector=app=a"], "has to be given by its name"),
        (
            &["--deployment=a", "--listen=1=a,2=b", "--service-port=5"],
            "--service-port: is for one port",
        ),
        (
            &["--deployment=a", "--listen=1=a,2=b", "--tcp-route=edge"],
            "--tcp-route: has 1 for 2 ports; name the Gateway's listener for each, in their order: \
             --tcp-route=GATEWAY:a,GATEWAY:b",
        ),
        (
            &["--deployment=a", "--tcp-route=Edge"],
            "--tcp-route: \"Edge\"",
        ),
        (
            &["--deployment=a", "--credentials=/tmp/secret-token"],
            "--credentials: is for use outside a cluster",
        ),
        (
            &["--deployment=a", "--hold-answer=/f"],
            "--hold-answer: the file /f is none of the proxy's container: put it into a ConfigMap",
        ),
        (
            &["--deployment=a", "--ignore-sources=10.0.0.0/8,@f"],
            "--ignore-sources: the file f is none",
        ),
        (
            &[
                "--deployment=a",
                "--webhook-ca=/etc/ca",
                "--config-map=my-files:/etc/zpa",
            ],
            "--webhook-ca: the file /etc/ca is none",
        ),
        (
            &[
                "--deployment=a",
                "--waiting-page=/etc/zpa/../x",
                "--config-map=my-files:/etc/zpa",
            ],
            "--waiting-page: the file /etc/zpa/../x is none",
        ),
        (
            &["--deployment=a", "--config-map=my-files"],
            "--config-map: \"my-files\" is not a ConfigMap and a directory",
        ),
        (
            &["--deployment=a", "--monitoring-labels=release"],
            "--monitoring-labels: release is no list of labels",
        ),
    ] {
        let Output::Errors(errors) = run(args) else {
            panic!("{args:?} is taken");
        };
        let text = errors.join("\n");
        assert!(text.contains(expected), "{args:?}: {text}");
        assert!(!text.contains("secret-token"), "{text}");
    }
}

#[test]
fn files_are_in_a_config_map_and_alerts_are_those_of_the_component() {
    let args = [
        "--deployment=my-app",
        "--ignore-sources=@/etc/zpa/ignored",
        "--config-map=my-files:/etc/zpa/",
        "--alerts",
        "--monitoring-labels=release=stack,team=a",
    ];
    let Some(objects) = objects(&args) else {
        return;
    };
    let pod = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"];
    let volume = json!([{ "name": "files", "configMap": { "name": "my-files" } }]);
    assert_eq!(pod["volumes"], volume);
    assert_eq!(
        pod["containers"][0]["volumeMounts"],
        json!([{ "name": "files", "mountPath": "/etc/zpa", "readOnly": true }])
    );
    let rule = find(&objects, "PrometheusRule", "my-app-zpa");
    assert_eq!(rule["metadata"]["labels"]["release"], "stack");
    assert_eq!(rule["metadata"]["labels"]["team"], "a");
    let component = "manifests/components/monitoring/alerts.yaml";
    let component = std::fs::read(crate::root().join(component)).unwrap();
    let component = read(&component).unwrap();
    assert_eq!(rule["spec"], component[0]["spec"]);
}

#[test]
fn the_head_names_the_admin_port_and_the_other_commands() {
    let yaml = yaml(&[
        "--scale-target=statefulsets.apps/db",
        "--namespace=shop",
        "--service=sql",
        "--admin-listen=:9000",
    ]);
    for line in [
        "#   kubectl -n shop rollout status deployment/db-zpa --timeout=5m",
        "#   zpa check --namespace=shop --scale-target=statefulsets.apps/db --service=sql",
        "#   kubectl -n shop port-forward deployment/db-zpa 9000",
        "# and look at http://localhost:9000/",
        "#   zpa uninstall --namespace=shop --scale-target=statefulsets.apps/db --service=sql",
    ] {
        assert!(yaml.lines().any(|it| it == line), "{line}\n{yaml}");
    }
}

#[test]
fn the_head_is_a_comment_and_a_command_whatever_the_arguments_are() {
    let yaml = yaml(&[
        "--deployment=a",
        "--log",
        "warn,zpa=debug",
        "--image=x y'z\n- kind: Pod",
    ]);
    let head: Vec<&str> = yaml.lines().take_while(|line| *line != "---").collect();
    assert!(head.iter().all(|line| line.starts_with('#')), "{head:?}");
    let command =
        r"zpa manifests --deployment=a --log warn,zpa=debug '--image=x y'\''z - kind: Pod'";
    assert_eq!(head[0], format!("# {command}"));
}
