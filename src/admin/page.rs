//! [`Page`]: the content of the page at `/`, which shows people the state of the apps.
//!
//! It is rendered to one HTML file without an outside resource. Without JavaScript the page is a
//! snapshot; with it, a short script fetches the page every two seconds and replaces the parts
//! that have changed. There is no other renderer. The
//! Content-Security-Policy ([`HEADERS`]) allows that style and that script by their hashes,
//! and requests to the origin of the page. Every text from outside is escaped.

mod drawing;
mod text;

use std::fmt::{self, Display, Write};
use std::time::Duration;

use self::drawing::{Timeline, WakeBar};
use self::text::{Escaped, ago, long, plural, short};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The header fields of the page. The hashes are those of the style and of the script
/// (CSP Level 3, 8.4); a test compares them.
pub const HEADERS: &str = "Content-Security-Policy: default-src 'none'; \
     style-src 'sha256-qKak2SHE4uLrmmo3YrwC+Cutqr4B2uXVZ/rjvkzBoDY='; \
     script-src 'sha256-XCZdRMyYrk5U9X8EEM1dYHOlLlT32XDMpjkx/7lpPe4='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n";

/// The most apps that are shown in full. The list has them all.
const APPS_IN_FULL: usize = 20;

/// The content of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The version of the program.
    pub version: &'static str,
    /// Whether the proxy is ready.
    pub is_ready: bool,
    /// How long the proxy has been running.
    pub uptime: Duration,
    /// The time of day, in seconds since 1970.
    pub unix: u64,
    /// The problems of the process as a whole.
    pub problems: Vec<Problem>,
    /// The apps.
    pub apps: Vec<App>,
}

/// A problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Whether connections suffer, or the app is not put to sleep.
    pub is_severe: bool,
    /// The problem in plain words.
    pub text: String,
    /// The code with which `zpa explain` says more, if there is one.
    pub code: Option<&'static str>,
}

/// The content about an app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct App {
    /// `namespace/name`.
    pub name: String,
    /// Its state.
    pub state: State,
    /// For how long it has been in its phase.
    pub state_for: Duration,
    /// When it goes to sleep, or why not.
    pub next: Next,
    /// The replicas, if they were seen.
    pub replicas: Option<u32>,
    /// The ready pods, by the status that its controller writes.
    pub ready_pods: Option<u32>,
    /// The open connections that count as use.
    pub counted: usize,
    /// The counted connections that wait for a pod.
    pub waiting: usize,
    /// The open connections that do not count.
    pub uncounted: usize,
    /// The connections that did not count, by the rule, since the start.
    pub excluded: Vec<(&'static str, u64)>,
    /// The last change of its scale: who made it, the replicas since then, how long ago.
    pub scaled: Option<(&'static str, u32, Duration)>,
    /// The last day, in slots of equal length.
    pub day: Vec<Slot>,
    /// The length of a slot.
    pub slot: Duration,
    /// The last wakes, the latest first.
    pub wakes: Vec<Wake>,
    /// How long it was asleep since the start.
    pub asleep: Duration,
    /// The hours asleep, each multiplied by the replicas before the sleep.
    pub replica_hours_saved: f64,
    /// Its problems.
    pub problems: Vec<Problem>,
}

/// The state of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is not known.
    #[default]
    Unknown,
    /// It has no replicas.
    Asleep,
    /// Connections wait for its pods.
    Waking,
    /// It has replicas.
    Awake,
    /// It is being scaled to zero.
    ScalingDown,
}

/// When an app goes to sleep, or why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// It sleeps, or its state is not known.
    #[default]
    Nothing,
    /// In that time, if no connection comes; and the reason why not sooner.
    SleepsIn(Duration, &'static str),
    /// Not while that reason lasts.
    StaysAwake(&'static str),
    /// It is being woken, which takes that long for that reason.
    Wakes(String),
    /// It is not woken for that reason, for that long if the passing of time ends it.
    NotWoken(&'static str, Option<Duration>),
}

/// A part of the day, with the fraction of it in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slot {
    /// The fraction asleep, from 0 to 1.
    pub asleep: f64,
    /// The fraction in which connections waited for a pod.
    pub waking: f64,
    /// The fraction awake.
    pub awake: f64,
}

/// A wake that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// How long ago it began.
    pub ago: Duration,
    /// How long it took.
    pub took: Duration,
    /// Until replicas were written.
    pub api: Option<Duration>,
    /// From then until a pod was ready.
    pub pod: Option<Duration>,
    /// From then until a pod had taken a connection.
    pub dial: Option<Duration>,
    /// `served`, `timed_out`, `failed` or `abandoned`.
    pub result: &'static str,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Asleep => "asleep",
            State::Waking => "waking",
            State::Awake => "awake",
            State::ScalingDown => "falling",
        }
    }

    fn word(self) -> &'static str {
        match self {
            State::Unknown => "Not known yet",
            State::Asleep => "Asleep",
            State::Waking => "Waking",
            State::Awake => "Awake",
            State::ScalingDown => "Going to sleep",
        }
    }
}

impl App {
    fn is_troubled(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The key of the order on the page: apps with problems, then apps asleep, then the others, by
    /// name.
    fn order(&self) -> (bool, bool, &str) {
        let is_asleep = self.state == State::Asleep;
        (!self.is_troubled(), !is_asleep, &self.name)
    }
}

/// The HTML of the page.
pub fn render(page: &Page) -> String {
    let mut html = String::with_capacity(16 * 1024);
    // Writing to a String does not fail.
    let _ = write_page(page, &mut html);
    html
}

fn write_page(page: &Page, html: &mut String) -> fmt::Result {
    let mut apps: Vec<&App> = page.apps.iter().collect();
    apps.sort_by(|one, other| one.order().cmp(&other.order()));
    let title = title(&apps);
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n",
        Escaped(&title)
    )?;
    write_header(page, html)?;
    html.push_str("<main>\n");
    write_problems("process", 2, &page.problems, html)?;
    if apps.len() > 1 {
        write_list(&apps, html)?;
    }
    for (at, app) in apps.iter().take(APPS_IN_FULL).enumerate() {
        write_app(at, app, html)?;
    }
    html.push_str("</main>\n");
    write_footer(page, html)?;
    write!(html, "<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

fn title(apps: &[&App]) -> String {
    match apps {
        [app] => format!("{}: {} · zpa", app.name, app.state.word().to_lowercase()),
        _ => {
            let asleep = apps.iter().filter(|it| it.state == State::Asleep).count();
            format!(
                "{asleep} of {} asleep · zpa",
                plural(apps.len() as u64, "app")
            )
        }
    }
}

fn write_header(page: &Page, html: &mut String) -> fmt::Result {
    let (class, word) = match page.is_ready {
        true => ("good", "ready"),
        false => ("bad", "not ready"),
    };
    writeln!(
        html,
        "<header><h1>zpa</h1><p id=\"proxy\"><span class=\"pill {class}\">{word}</span> \
         <span class=\"quiet\">up {}</span></p>\
         <p id=\"live\" class=\"quiet\">Snapshot of {} UTC</p></header>",
        long(page.uptime),
        text::clock(page.unix),
    )
}

fn write_footer(page: &Page, html: &mut String) -> fmt::Result {
    writeln!(
        html,
        "<footer class=\"quiet\"><p>zero-pod-autoscaler {}. More: \
         <a href=\"/status\">/status</a>, <a href=\"/metrics\">/metrics</a>, \
         <a href=\"/readyz\">/readyz</a>, <a href=\"/healthz\">/healthz</a>.</p></footer>",
        Escaped(page.version)
    )
}

fn write_list(apps: &[&App], html: &mut String) -> fmt::Result {
    html.push_str(
        "<section id=\"apps\" class=\"card\"><h2>Apps</h2>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Apps\"><table>\
         <thead><tr><th scope=\"col\">App</th><th scope=\"col\">State</th>\
         <th scope=\"col\" class=\"number\">For</th>\
         <th scope=\"col\" class=\"number\">Connections</th>\
         <th scope=\"col\" class=\"number\">Replica-hours saved</th></tr></thead><tbody>\n",
    );
    for (at, app) in apps.iter().enumerate() {
        html.push_str("<tr><th scope=\"row\">");
        let name = Escaped(&app.name);
        match at {
            ..APPS_IN_FULL => write!(html, "<a href=\"#app-{at}\">{name}</a>")?,
            _ => write!(html, "{name}")?,
        }
        let trouble = match app.problems.len() {
            0 => String::new(),
            n => format!(
                " <span class=\"pill bad\">{}</span>",
                plural(n as u64, "problem")
            ),
        };
        writeln!(
            html,
            "</th><td><span class=\"pill {}\">{}</span>{trouble}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{:.1}</td></tr>",
            app.state.class(),
            app.state.word(),
            long(app.state_for),
            app.counted,
            app.replica_hours_saved,
        )?;
    }
    html.push_str("</tbody></table></div></section>\n");
    Ok(())
}

/// Writes an app in full. `at` is its place, for the anchors.
fn write_app(at: usize, app: &App, html: &mut String) -> fmt::Result {
    let (class, name) = (app.state.class(), Escaped(&app.name));
    writeln!(
        html,
        "<article id=\"app-{at}\" aria-label=\"{name}\">\n\
         <section id=\"state-{at}\" class=\"card hero {class}\"><h2>{name}</h2>\
         <p class=\"state\">{}{}<span class=\"for\"> for {}</span></p><p>{}</p></section>",
        drawing::icon(app.state),
        app.state.word(),
        long(app.state_for),
        Sentence(app),
    )?;
    write_problems(&format!("problems-{at}"), 3, &app.problems, html)?;
    write_facts(at, app, html)?;
    write_day(at, app, html)?;
    write_wakes(at, app, html)?;
    html.push_str("</article>\n");
    Ok(())
}

/// A sentence about when the app goes to sleep.
struct Sentence<'a>(&'a App);

impl Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.next, self.0.state) {
            (Next::SleepsIn(time, why), _) if !time.is_zero() => write!(
                f,
                "Goes to sleep in <b>{}</b> if nobody connects: {}.",
                long(*time),
                Escaped(why)
            ),
            (Next::SleepsIn(..), _) => f.write_str("Goes to sleep now, if nobody connects."),
            (Next::StaysAwake(why), _) => write!(f, "Stays awake: {}.", Escaped(why)),
            (Next::Wakes(why), _) => {
                let waiting = waiting(self.0.waiting);
                write!(f, "<b>{waiting}</b> for a pod: {}.", Escaped(why))
            }
            (Next::NotWoken(why, left), _) => {
                match self.0.waiting {
                    0 => f.write_str("Who connects now has to wait: ")?,
                    n => write!(f, "<b>{}</b>, and it is not woken: ", waiting(n))?,
                }
                write!(f, "{}", Escaped(why))?;
                match left {
                    Some(left) => write!(f, ", for another {}.", long(*left)),
                    None => f.write_str("."),
                }
            }
            (Next::Nothing, State::Asleep) => f.write_str("The next connection wakes it."),
            (Next::Nothing, State::ScalingDown) => {
                f.write_str("Who connects now is held, and wakes it again.")
            }
            (Next::Nothing, _) => f.write_str("The scale was not read yet."),
        }
    }
}

fn waiting(count: usize) -> String {
    match count {
        0 => "No connection waits any more".to_owned(),
        1 => "1 connection waits".to_owned(),
        n => format!("{n} connections wait"),
    }
}

/// Writes a list of problems. `level` is that of the heading.
fn write_problems(id: &str, level: u8, problems: &[Problem], html: &mut String) -> fmt::Result {
    write!(html, "<div id=\"{id}\">")?;
    if !problems.is_empty() {
        write!(
            html,
            "<section class=\"card problems\"><h{level}>What is wrong</h{level}><ul>"
        )?;
        for problem in problems {
            let (class, word) = match problem.is_severe {
                true => ("bad", "problem"),
                false => ("warn", "note"),
            };
            write!(
                html,
                "<li><span class=\"pill {class}\">{word}</span> {}",
                Escaped(&problem.text)
            )?;
            if let Some(code) = problem.code {
                write!(html, " <code>zpa explain {code}</code>")?;
            }
            html.push_str("</li>");
        }
        html.push_str("</ul></section>");
    }
    html.push_str("</div>\n");
    Ok(())
}

fn write_facts(at: usize, app: &App, html: &mut String) -> fmt::Result {
    let count = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    writeln!(
        html,
        "<section id=\"facts-{at}\" class=\"card\"><h3>Now</h3><dl class=\"facts\">\
         <div><dt>Connections in use</dt><dd>{}</dd></div>\
         <div><dt>Of these, waiting for a pod</dt><dd>{}</dd></div>\
         <div><dt>Not counted as use</dt><dd>{}</dd></div>\
         <div><dt>Replicas</dt><dd>{}</dd></div>\
         <div><dt>Pods ready</dt><dd>{}</dd></div></dl>",
        app.counted,
        app.waiting,
        app.uncounted,
        count(app.replicas),
        count(app.ready_pods),
    )?;
    if let Some((by, replicas, since)) = app.scaled {
        writeln!(
            html,
            "<p class=\"quiet\">Scaled to {replicas} by {by}, {}.</p>",
            ago(since)
        )?;
    }
    let excluded: Vec<String> = app
        .excluded
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(rule, count)| format!("{count} by <code>{rule}</code>"))
        .collect();
    if !excluded.is_empty() {
        writeln!(
            html,
            "<p class=\"quiet\">Not counted as use since the start: {}.</p>",
            excluded.join(", ")
        )?;
    }
    html.push_str("</section>\n");
    Ok(())
}

fn write_day(at: usize, app: &App, html: &mut String) -> fmt::Result {
    writeln!(
        html,
        "<section id=\"day-{at}\" class=\"card\"><h3>The last day</h3>{}\
         <dl class=\"facts saved\"><div><dt>Replica-hours saved</dt><dd>{:.1}</dd></div>\
         <div><dt>Asleep, since the proxy runs</dt><dd>{}</dd></div></dl></section>",
        Timeline {
            day: &app.day,
            slot: app.slot
        },
        app.replica_hours_saved,
        long(app.asleep),
    )
}

fn write_wakes(at: usize, app: &App, html: &mut String) -> fmt::Result {
    write!(
        html,
        "<section id=\"wakes-{at}\" class=\"card\"><h3>The last wakes</h3>"
    )?;
    if app.wakes.is_empty() {
        html.push_str("<p class=\"quiet\">None since the proxy has started.</p></section>\n");
        return Ok(());
    }
    html.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"The last wakes\">\
         <table><thead><tr><th scope=\"col\">When</th>\
         <th scope=\"col\" class=\"number\">Took</th><th scope=\"col\">Result</th>\
         <th scope=\"col\" class=\"bar\">Parts</th>\
         <th scope=\"col\" class=\"number\"><span class=\"key api\"></span>API</th>\
         <th scope=\"col\" class=\"number\"><span class=\"key pod\"></span>Pod</th>\
         <th scope=\"col\" class=\"number\"><span class=\"key dial\"></span>Dial</th>\
         </tr></thead><tbody>\n",
    );
    let longest = app.wakes.iter().map(|wake| wake.took).max();
    for wake in &app.wakes {
        let part = |part: Option<Duration>| part.map_or_else(|| "–".to_owned(), short);
        let (class, result) = match wake.result {
            "served" => ("good", "served"),
            "timed_out" => ("bad", "timed out"),
            "failed" => ("bad", "failed"),
            _ => ("warn", "abandoned"),
        };
        writeln!(
            html,
            "<tr><td>{}</td><td class=\"number\"><b>{}</b></td>\
             <td><span class=\"pill {class}\">{result}</span></td><td class=\"bar\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td></tr>",
            ago(wake.ago),
            short(wake.took),
            WakeBar {
                wake,
                longest: longest.unwrap_or_default()
            },
            part(wake.api),
            part(wake.pod),
            part(wake.dial),
        )?;
    }
    html.push_str("</tbody></table></div></section>\n");
    Ok(())
}

#[cfg(test)]
mod tests;
