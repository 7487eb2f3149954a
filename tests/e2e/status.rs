//! The times, reasons and names in `/status`.

use super::*;

use std::process::{Command, Stdio};

use serde_json::Value;

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_status_follows_an_app_from_its_sleep_to_its_next_one() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    zpa.expect_status("asleep, and due to nothing", |status| {
        let app = &status["app"];
        app["phase"] == "asleep" && app["sleep"].is_null() && app["last_wake"].is_null()
    });
    assert_eq!(zpa.metric("zpa_sleep_due_timestamp_seconds"), None);

    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    zpa.expect_status(
        "what keeps it awake, and what it took to wake it",
        |status| {
            let app = &status["app"];
            app["sleep"]["kept_awake_by"] == "connections"
                && app["last_wake"]["result"] == "served"
                && app["pods"]["ready"] == 1
        },
    );
    let status = zpa.status();
    let app = &status["app"];
    assert_eq!(app["last_scaled"]["by"], "this proxy");
    assert_eq!(app["last_scaled"]["replicas"], 1);
    let wake = &app["last_wake"];
    let parts = ["api_seconds", "pod_seconds", "dial_seconds"].map(|part| number(&wake[part]));
    let sum: f64 = parts.iter().sum();
    let took = number(&wake["took_seconds"]);
    assert!(
        (took - sum).abs() < 0.01,
        "{took} s is the sum of {parts:?}"
    );
    assert!(number(&app["longest_wait_seconds"]) > 0.0);
    assert!(number(&app["for_seconds"]) < TEST_TIMEOUT.as_secs_f64());
    let addresses = status["ports"][0]["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 1, "{status}");
    let lease = &status["in_use"]["last_lease"];
    assert_eq!(lease["by"].as_array().unwrap().len(), 1, "{status}");

    drop(client);
    zpa.expect_status("when it sleeps", |status| {
        status["app"]["sleep"]["kept_awake_by"] == "idle_ttl"
    });
    let left = number(&zpa.status()["app"]["sleep"]["in_seconds"]);
    assert!(left > 3_000.0 && left <= 3_600.0, "{left}");
    assert!(zpa.metric("zpa_sleep_due_timestamp_seconds") > Some(1_600_000_000.0));

    sandbox.set_replicas(0);
    zpa.expect_status("somebody else has scaled it", |status| {
        let scaled = &status["app"]["last_scaled"];
        scaled["replicas"] == 0 && scaled["by"] == "somebody else (another proxy, kubectl)"
    });
}

#[test]
fn a_wake_and_its_traffic_show_in_metrics_that_promtool_accepts() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    echo(&mut client, "hello");
    zpa.expect_metric("zpa_wake_results_total{result=\"served\"}", 1.0);
    drop(client);
    expect_metrics(
        &zpa,
        &[
            ("zpa_bytes_total{direction=\"to_pods\"}", 5.0),
            ("zpa_bytes_total{direction=\"to_clients\"}", 5.0),
            ("zpa_wake_part_seconds_count{part=\"api\"}", 1.0),
            ("zpa_wake_part_seconds_count{part=\"pod\"}", 1.0),
            ("zpa_wake_part_seconds_count{part=\"dial\"}", 1.0),
            ("zpa_wake_results_total{result=\"timed_out\"}", 0.0),
        ],
    );
    for series in [
        "zpa_asleep_seconds_total",
        "zpa_saved_replica_seconds_total",
        "zpa_api_request_seconds_sum{verb=\"patch\"}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(zpa.metric(series) > Some(0.0), "{series}");
    }
    check_with_promtool(&zpa.get("/metrics").1);
}

/// Has promtool read a scrape and judge its names.
fn check_with_promtool(scrape: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return support::skip_without("promtool");
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(scrape.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}
