//! [`Watch`]: the alerts of a Prometheus as they come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::prometheus::{Prometheus, now};
use crate::rules::Labels;

/// How long an alert may take to fire and to end: several times as long as it takes.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

const PERIOD: Duration = Duration::from_millis(300);

/// An alert that fires.
pub struct Fired {
    /// All but its name.
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    /// Since when its expression has been true, and when it was seen to fire.
    pub active: f64,
    pub seen: f64,
}

pub struct Watch<'a> {
    prometheus: &'a Prometheus,
    alerts: Mutex<Vec<Value>>,
    changed: Condvar,
}

impl<'a> Watch<'a> {
    pub fn new(prometheus: &'a Prometheus) -> Watch<'a> {
        Watch {
            prometheus,
            alerts: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Asks for the alerts until the run is over.
    pub fn run(&self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let mut alerts = self.prometheus.get("alerts", &[]);
            let alerts = alerts["alerts"].as_array_mut().map(std::mem::take);
            *self.alerts.lock().unwrap() = alerts.unwrap_or_default();
            self.changed.notify_all();
            thread::sleep(PERIOD);
        }
    }

    /// The alert of a pod, if it is there now.
    fn alert(alerts: &[Value], pod: &str, alert: &str) -> Option<Value> {
        let mut alerts = alerts.iter();
        let is_it =
            |it: &&Value| it["labels"]["namespace"] == pod && it["labels"]["alertname"] == alert;
        alerts.find(is_it).cloned()
    }

    /// Waits for the alert of a pod to be as wanted.
    fn expect(
        &self,
        pod: &str,
        alert: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let deadline = Instant::now() + MAX_WAIT;
        let mut alerts = self.alerts.lock().unwrap();
        loop {
            let found = Watch::alert(&alerts, pod, alert);
            if wanted(found.as_ref()) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{pod}: {alert} does not come or go: {alerts:#?}"
            );
            alerts = self.changed.wait_timeout(alerts, left).unwrap().0;
        }
    }

    /// The alert of a pod, if it fires now.
    pub fn fires(&self, pod: &str, alert: &str) -> Option<Fired> {
        let found = Watch::alert(&self.alerts.lock().unwrap(), pod, alert)?;
        (found["state"] == "firing").then(|| Fired::of(&found))
    }

    /// Waits until an alert of a pod fires.
    pub fn expect_firing(&self, pod: &str, alert: &str) -> Fired {
        let firing = |found: Option<&Value>| found.is_some_and(|it| it["state"] == "firing");
        Fired::of(&self.expect(pod, alert, firing).expect("it fires"))
    }

    /// Waits until an alert of a pod is not there any more.
    pub fn expect_ended(&self, pod: &str, alert: &str) {
        self.expect(pod, alert, |found| found.is_none());
    }

    /// Waits until so many more scrapes of a pod have succeeded.
    pub fn expect_scrapes(&self, pod: &str, count: usize) {
        let (deadline, start) = (Instant::now() + MAX_WAIT, now());
        loop {
            let recorded = self.prometheus.query(&format!("up{{pod=\"{pod}\"}}[1h]"));
            let samples = recorded[0]["values"].as_array().into_iter().flatten();
            let good = samples.filter(|it| it[0].as_f64() >= Some(start) && it[1] == "1");
            if good.count() >= count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{pod} is not scraped: {recorded}"
            );
            thread::sleep(PERIOD);
        }
    }
}

impl Fired {
    fn of(alert: &Value) -> Fired {
        let mut labels: Labels = serde_json::from_value(alert["labels"].clone()).unwrap();
        labels.remove("alertname");
        let active: jiff::Timestamp = alert["activeAt"].as_str().unwrap().parse().unwrap();
        Fired {
            labels,
            annotations: serde_json::from_value(alert["annotations"].clone()).unwrap(),
            value: alert["value"].as_str().unwrap().parse().unwrap(),
            active: active.as_duration().as_secs_f64(),
            seen: now(),
        }
    }
}
