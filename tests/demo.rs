//! The script behind `make run` on a kind cluster, from its beginning to its end:
//! every tool that it calls is a stand-in (`tests/demo/stand-in.sh`), which writes
//! down how it was called.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// How long the script may take. Seconds.
const LIMIT: &str = "60";

const TOOLS: [&str; 6] = ["kind", "docker", "kubectl", "curl", "make", "sleep"];

/// What the proxies of `manifests/example` are labelled with.
const PROXIES: &str =
    "app.kubernetes.io/name=zero-pod-autoscaler,app.kubernetes.io/instance=my-app";

#[test]
fn the_show_waits_for_as_many_proxies_as_their_deployment_asks_for() {
    for replicas in [replicas_of_the_base(), 5] {
        let fixture = Fixture::set(replicas);
        let output = fixture.play();
        assert!(output.status.success(), "{output:#?}");
        let calls = fixture.calls();
        let asked = calls
            .iter()
            .filter(|call| call.contains("get pods --selector app.kubernetes.io/name=zero"));
        assert_eq!(asked.count(), 2, "{replicas} and one, then {replicas}");
        assert!(
            fixture.index("get pods") < fixture.index("port-forward"),
            "{calls:#?}"
        );
    }
}

#[test]
fn the_show_ends_with_what_to_try_and_with_the_words_of_every_proxy() {
    let fixture = Fixture::set(2);
    let output = fixture.play();
    let said = String::from_utf8_lossy(&output.stdout);
    for words in [
        "Yours to try:  curl http://127.0.0.1:8080/hostname\n",
        "What zpa knows and does:  curl http://127.0.0.1:40001/status\n",
        "[pod/my-app-zpa-1/zpa] what it says\n",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    fixture.index(&format!("--prefix --tail=20 --selector {PROXIES}"));
}

#[test]
fn a_pod_that_never_goes_ends_the_show_with_a_message() {
    let fixture = Fixture::set(2);
    fixture.place("stuck");
    let output = fixture.play();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let message = "deployment/my-app-zpa asks for 2 pods, and after 120 s there are 3:\n";
    assert!(said.contains(message), "{said}");
    assert!(said.contains("pod/my-app-zpa-old\n"), "{said}");
}

#[test]
fn a_port_in_use_ends_the_show_before_anything_is_made() {
    let fixture = Fixture::set(2);
    fixture.place("port-in-use");
    let output = fixture.play();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("PORT=8090 make run"), "{said}");
    assert_eq!(fixture.calls().len(), 1, "{:#?}", fixture.calls());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn replicas_of_the_base() -> u32 {
    let text = fs::read_to_string(root().join("manifests/base/deployment.yaml")).unwrap();
    let mut lines = text.lines();
    let replicas = lines.find_map(|line| line.trim().strip_prefix("replicas: "));
    replicas.unwrap().parse().unwrap()
}

/// A directory in which the script runs, with the tools; removed at the end.
struct Fixture {
    directory: PathBuf,
    replicas: u32,
}

impl Fixture {
    fn set(replicas: u32) -> Fixture {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("zpa-show-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let tools = directory.join("tools");
        fs::create_dir_all(&tools).unwrap();
        let program = root().join("tests/demo/stand-in.sh");
        for tool in TOOLS {
            symlink(&program, tools.join(tool)).unwrap();
        }
        fs::write(directory.join("old-pod"), "pod/my-app-zpa-old\n").unwrap();
        Fixture {
            directory,
            replicas,
        }
    }

    /// A file that changes what the tools do.
    fn place(&self, name: &str) {
        fs::write(self.directory.join(name), "").unwrap();
    }

    fn play(&self) -> Output {
        let path = std::env::var("PATH").unwrap();
        let tools = self.directory.join("tools");
        Command::new("timeout")
            .args([LIMIT, "sh"])
            .arg(root().join("tests/run-kind.sh"))
            .arg("docker")
            .current_dir(&self.directory)
            .env("PATH", format!("{}:{path}", tools.display()))
            .env("REAL_PATH", path)
            .env("REPLICAS", self.replicas.to_string())
            .env("PROXIES", PROXIES)
            .env("LIMIT", LIMIT)
            .env_remove("PORT")
            .output()
            .unwrap()
    }

    /// How the tools were called, in order.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("calls")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Which call was the first that has the words.
    fn index(&self, words: &str) -> usize {
        let calls = self.calls();
        let found = calls.iter().position(|call| call.contains(words));
        found.unwrap_or_else(|| panic!("no call with {words} among {calls:#?}"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
