//! The policy as a table of what it does when. Each test is a sentence; a
//! `Fixture` plays the parts of the engine and of the API server.
//!
//! `start`, `sleep` and `wake` follow a day of the app. What proxies do for
//! one another is in `lease` (we renew) and `others` (they do), what else the object
//! keeps in `kept`, what keeps it awake in `sleep_due`, how often it wakes at most in
//! `wake_limits`, what an operator orders in `overrides`, what a watch of it adds in `watch`,
//! what is left without the API server in `outage`, and `anything` plays all of it at random.

mod anything;
mod fixture;
mod kept;
mod lease;
mod others;
mod outage;
mod overrides;
mod sleep;
mod sleep_due;
mod start;
mod wake;
mod wake_limits;
mod watch;
