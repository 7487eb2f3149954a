//! A headless Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2>), which is
//! JSON over plain HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use support::program::TEST_TIMEOUT;

/// A browser with one window. It ends when dropped.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
}

/// What the window is like.
pub struct Look {
    /// Its width and height in pixels.
    pub size: [u32; 2],
    /// `light` or `dark`.
    pub scheme: &'static str,
}

impl Browser {
    /// Starts one; `None` where there is none, which is said.
    pub fn start() -> Option<Browser> {
        Browser::start_with(&json!({}))
    }

    /// The same, in which pages run no JavaScript. WebDriver's own scripts run all the same.
    pub fn start_without_javascript() -> Option<Browser> {
        let blocked = 2;
        Browser::start_with(&json!({
            "profile.managed_default_content_settings.javascript": blocked,
        }))
    }

    fn start_with(preferences: &Value) -> Option<Browser> {
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = spawned else {
            support::skip_without("chromedriver");
            return None;
        };
        let stdout = driver.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // What it prints later has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.expect("chromedriver says on which port it listens");
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TEST_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut browser = Browser {
            driver,
            agent: config.into(),
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-first-run", "--disable-extensions", "--hide-scrollbars"],
            "prefs": preferences,
        });
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let session = browser.call("POST", "", &wanted);
        let id = session["sessionId"].as_str().expect("a session");
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    /// A command; the result is its value.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let reply = match method {
            "POST" => self
                .agent
                .post(&url)
                .content_type("application/json")
                .send(body.to_string()),
            "GET" => self.agent.get(&url).call(),
            _ => self.agent.delete(&url).call(),
        };
        let mut reply = reply.unwrap_or_else(|why| panic!("{method} {path}: {why}"));
        let text = reply
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string();
        let text = text.unwrap();
        let status = reply.status().as_u16();
        assert_eq!(status, 200, "{method} {path}: {text}");
        let mut reply: Value = serde_json::from_str(&text).unwrap();
        reply["value"].take()
    }

    /// A command of Chromium's own protocol.
    fn devtools(&self, command: &str, params: &Value) {
        let body = json!({ "cmd": command, "params": params });
        self.call("POST", "/goog/cdp/execute", &body);
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url }));
    }

    /// Changes the look of the window.
    pub fn set_look(&self, look: &Look) {
        let [width, height] = look.size;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = json!({ "name": "prefers-color-scheme", "value": look.scheme });
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [scheme] }),
        );
    }

    /// The result of a function body in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.call("POST", "/execute/sync", &body)
    }

    /// The text of the page, as it is seen.
    pub fn text(&self) -> String {
        let text = self.run("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of the page is as `condition` wants it.
    #[track_caller]
    pub fn expect_text(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let text = self.text();
            if condition(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the page has written to the console, and what the browser has complained of.
    pub fn console(&self) -> Vec<Value> {
        let log = self.call("POST", "/se/log", &json!({ "type": "browser" }));
        log.as_array().cloned().unwrap_or_default()
    }

    /// Saves a picture of the whole page as `name` in the directory of `ZPA_SCREENSHOTS`, if
    /// that is set.
    pub fn save_picture(&self, name: &str) {
        let Ok(directory) = std::env::var("ZPA_SCREENSHOTS") else {
            return;
        };
        let png = self.call("GET", "/screenshot", &Value::Null);
        let png = BASE64_STANDARD.decode(png.as_str().unwrap()).unwrap();
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(format!("{directory}/{name}.png"), png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
