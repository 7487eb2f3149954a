//! [`Prometheus`]: a real one, which scrapes proxies every second and evaluates rules as
//! often.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use support::admin::reply;
use support::program::TEST_TIMEOUT;

use crate::recording::Series;
use crate::rules::{Labels, Rules};
use crate::scene::Target;

/// A process; ended when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    started: f64,
}

/// Seconds since 1970, as Prometheus counts.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock that is set").as_secs_f64()
}

impl Prometheus {
    /// Starts one with its files in `directory`, and waits until it answers.
    pub fn start(directory: &Path, rules: &Rules, targets: Vec<Target>) -> Prometheus {
        let targets: Vec<Value> = targets
            .iter()
            .map(|it| json!({ "targets": [it.address.to_string()], "labels": it.labels }))
            .collect();
        let config = json!({
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{ "job_name": "zpa", "static_configs": targets }],
        });
        let write = |name: &str, content: &Value| {
            fs::write(directory.join(name), content.to_string()).unwrap();
        };
        write("prometheus.yaml", &config);
        write("rules.yaml", &rules.0);
        let log = directory.join("prometheus.log");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut prometheus = Prometheus {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            started: now(),
        };
        prometheus.address = prometheus.expect_ready(&log);
        prometheus
    }

    /// Waits until it answers; returns where.
    fn expect_ready(&mut self, log: &Path) -> SocketAddr {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let log = fs::read_to_string(log).unwrap();
            let listening = log.split("msg=\"Listening on\" address=").nth(1);
            let address = listening.and_then(|rest| rest.split_whitespace().next());
            if let (Some(address), true) = (address, log.contains("Server is ready")) {
                return address.parse().unwrap();
            }
            let has_ended = self.child.try_wait().unwrap().is_some();
            assert!(!has_ended && Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a path of its API answers.
    #[track_caller]
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let parameters = parameters.iter().map(|(name, value)| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        let parameters = parameters.collect::<Vec<_>>().join("&");
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        // Version 1.0, so that the reply comes in one piece and ends.
        write!(stream, "GET /api/v1/{path}?{parameters} HTTP/1.0\r\n\r\n").unwrap();
        let (_, body) = reply(&mut stream);
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{parameters}: {answer}");
        answer["data"].take()
    }

    /// The result of a query, as of now.
    #[track_caller]
    pub fn query(&self, query: &str) -> Value {
        self.get("query", &[("query", query)])["result"].take()
    }

    /// The same as of a time.
    #[track_caller]
    pub fn query_at(&self, query: &str, time: f64) -> Value {
        self.get("query", &[("query", query), ("time", &time.to_string())])["result"].take()
    }

    /// The results of a query for each second since the start.
    #[track_caller]
    pub fn query_range(&self, query: &str) -> Vec<Series> {
        let (start, end) = (self.started.to_string(), now().to_string());
        let parameters = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", "1"),
        ];
        all_series(&self.get("query_range", &parameters)["result"])
    }

    /// Every sample that was scraped of a pod.
    pub fn recorded(&self, pod: &str) -> Vec<Series> {
        all_series(&self.query(&format!("{{pod=\"{pod}\", alertstate=\"\"}}[1h]")))
    }
}

fn all_series(result: &Value) -> Vec<Series> {
    let result = result.as_array().unwrap().iter();
    result.map(series).collect()
}

fn series(of: &Value) -> Series {
    let labels: Labels = serde_json::from_value(of["metric"].clone()).unwrap();
    let samples = of["values"].as_array().unwrap().iter().map(|sample| {
        let milliseconds = (sample[0].as_f64().unwrap() * 1000.0).round() as u64;
        (milliseconds, sample[1].as_str().unwrap().to_owned())
    });
    Series {
        labels,
        samples: samples.collect::<BTreeMap<_, _>>(),
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
