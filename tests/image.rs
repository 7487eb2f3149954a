//! The container image: what is in it, and that the program runs in it as the
//! kubelet would run it.
//!
//! `ZPA_IMAGE` names the image, an archive in the OCI layout; `make image-test`
//! sets it. The image is unpacked and run without a container engine, with the
//! means of the kernel that an engine would use, which takes root.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::sandbox::{Options, Sandbox, on};

const USER: u32 = 65532;
const MAX_SIZE: u64 = 8 << 20;
/// Where the Go zero-pod-autoscaler is in its image.
const ANCESTORS_COMMAND: &str = "bin/zero-pod-autoscaler";
const LIMIT: Duration = Duration::from_secs(10);
const CREDENTIALS: &str = "var/run/secrets/kubernetes.io/serviceaccount";

#[test]
fn the_image_starts_the_program_as_a_user_that_is_not_root() {
    let Some(image) = Image::unpack("config") else {
        return;
    };
    let config = &image.config["config"];
    assert_eq!(config["User"], json!(format!("{USER}:{USER}")));
    assert_eq!(config["Entrypoint"], json!(["/zpa"]));
    assert_eq!(
        config["ExposedPorts"],
        json!({ "8080/tcp": {}, "8081/tcp": {} })
    );
    let title = &config["Labels"]["org.opencontainers.image.title"];
    assert_eq!(title, "zero-pod-autoscaler");
}

#[test]
fn the_image_holds_the_program_and_nothing_else() {
    let Some(image) = Image::unpack("content") else {
        return;
    };
    let entries = fs::read_dir(image.root()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "zpa"]);
    let entries = fs::read_dir(image.root().join("bin")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        names,
        ["zero-pod-autoscaler"],
        "for a manifest that names it"
    );
    let link = fs::read_link(image.root().join(ANCESTORS_COMMAND)).unwrap();
    assert_eq!(link, Path::new("/zpa"));
    let program = fs::symlink_metadata(image.root().join("zpa")).unwrap();
    assert!(program.is_file());
    assert_eq!(program.permissions().mode() & 0o7777, 0o755);
    assert!(program.len() < MAX_SIZE, "{} bytes", program.len());
}

#[test]
fn in_its_image_the_program_wakes_the_app_and_ends_on_sigterm() {
    let Some(image) = Image::unpack("run") else {
        return;
    };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return support::skip("running the program in its image takes root");
    }
    for program in ["/zpa".to_owned(), format!("/{ANCESTORS_COMMAND}")] {
        wakes_and_ends(&image, &program);
    }
}

fn wakes_and_ends(image: &Image, program: &str) {
    let sandbox = Sandbox::start(Options::default());
    let mut container = Container::start(image, &sandbox, program);
    container.expect_confinement();

    let mut client = TcpStream::connect(container.address).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"are you awake?").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut echo = String::new();
    client.read_to_string(&mut echo).unwrap();
    assert_eq!(echo, "are you awake?");
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 1);

    container.signal("TERM");
    assert_eq!(container.wait().code(), Some(0));
}

/// An image, unpacked for one test.
struct Image {
    directory: PathBuf,
    config: Value,
}

impl Image {
    /// The image that is to be tested, or none if there is none, which is said.
    fn unpack(purpose: &str) -> Option<Image> {
        let Some(archive) = std::env::var_os("ZPA_IMAGE") else {
            support::skip("no image to test: ZPA_IMAGE is not set; `make image-test` sets it");
            return None;
        };
        let name = format!("zpa-image-{}-{purpose}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let layout = directory.join("layout");
        let root = directory.join("root");
        fs::create_dir_all(&root).unwrap();
        untar(Path::new(&archive), &layout);
        let mut manifest = read_json(&layout.join("index.json"));
        // An index may list another one.
        while let Value::Array(manifests) = &manifest["manifests"] {
            manifest = read_json(&blob(&layout, &manifests[0]));
        }
        let config = read_json(&blob(&layout, &manifest["config"]));
        for layer in manifest["layers"].as_array().unwrap() {
            untar(&blob(&layout, layer), &root);
        }
        Some(Image { directory, config })
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// Where the layout keeps what a descriptor describes.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn untar(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let tar = Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(into)
        .status();
    assert!(tar.unwrap().success(), "tar: {}", archive.display());
}

/// Makes the root read-only, shows it the credentials, and
/// becomes the program: PID 1 of its namespace, as in a container.
const ENTER: &str = r#"
set -eu
root=$1 credentials=$2 mount_point=$3 user=$4 program=$5
mount --bind "$root" "$root"
mount --bind "$credentials" "$root/$mount_point"
mount --options remount,bind,ro "$root/$mount_point"
mount --options remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$program"
"#;

/// The program in its image.
struct Container {
    /// `unshare`, which waits for the program and ends as it does.
    unshare: Child,
    /// The program, as seen from outside its namespace.
    pid: u32,
    address: SocketAddr,
    log: Receiver<String>,
}

impl Container {
    /// Returns once `program` listens.
    fn start(image: &Image, sandbox: &Sandbox, program: &str) -> Container {
        let root = image.root();
        // The kubelet, too, makes what is missing to mount on.
        fs::create_dir_all(root.join(CREDENTIALS)).unwrap();
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", ENTER, "sh"])
            .arg(&root)
            .arg(sandbox.credentials())
            .args([
                CREDENTIALS,
                image.config["config"]["User"].as_str().unwrap(),
                program,
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env(
                "KUBERNETES_SERVICE_HOST",
                sandbox.address().ip().to_string(),
            )
            .env(
                "KUBERNETES_SERVICE_PORT",
                sandbox.address().port().to_string(),
            )
            .env("ZPA_DEPLOYMENT", "myapp")
            .env("ZPA_LISTEN", "127.0.0.1:0")
            .env("ZPA_ADMIN_LISTEN", "127.0.0.1:0")
            .env("ZPA_DRAIN_DELAY", "0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = follow(unshare.stderr.take().unwrap());
        let address = address_in(&log);
        let pid = only_child(unshare.id());
        Container {
            unshare,
            pid,
            address,
            log,
        }
    }

    /// Checks that the kernel sees what [`ENTER`] has asked for, since the rest
    /// of the test would pass without it.
    fn expect_confinement(&self) {
        let status = self.proc("status");
        let user = USER.to_string();
        for (field, expected) in [
            ("Uid", &*user),
            ("Gid", &*user),
            ("CapEff", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            let value = field_of(&status, field).next();
            assert_eq!(value, Some(expected), "{field} in\n{status}");
        }
        assert_eq!(field_of(&status, "NSpid").last(), Some("1"), "{status}");
        let mounts = self.proc("mountinfo");
        let options: Vec<&str> = mounts.lines().filter_map(|m| m.split(' ').nth(5)).collect();
        assert!(options.len() >= 2, "{mounts}");
        let read_only = options.iter().all(|options| options.starts_with("ro,"));
        assert!(read_only, "{mounts}");
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap()
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// How the program ended.
    fn wait(&mut self) -> ExitStatus {
        // The log ends when the last process that writes it does.
        let deadline = Instant::now() + LIMIT;
        let mut log = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => log += &(line + "\n"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("still runs:\n{log}"),
            }
        }
        print!("{log}");
        self.unshare.wait().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn follow(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The address in `zpa 0.1.0 listens on 127.0.0.1:40001 for ...`.
fn address_in(log: &Receiver<String>) -> SocketAddr {
    let mut seen = String::new();
    while let Ok(line) = log.recv_timeout(LIMIT) {
        if let Some((_, rest)) = line.split_once("listens on ") {
            return rest.split(' ').next().unwrap().parse().unwrap();
        }
        seen += &(line + "\n");
    }
    panic!("the program does not listen; it said:\n{seen}");
}

fn only_child(parent: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    children.unwrap().trim().parse().unwrap()
}

/// The words of a line of `/proc/PID/status`.
fn field_of<'a>(status: &'a str, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace()
}
