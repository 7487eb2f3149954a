//! The rules about changes of the scale: which proxy may scale the app to zero, and when.

use zpa::clock::Time;

use super::{ClientResult, Oracle, RECOVERY};
use crate::deployment::{Change, Who};

impl Oracle {
    /// The number of replicas has changed; `shares_no_leases` if by a proxy that could not
    /// share leases.
    pub fn scaled(&mut self, change: Change, shares_no_leases: bool) {
        if let Who::Proxy(pid) = change.by {
            if shares_no_leases && change.to == 0 {
                let what = format!("p{pid} sleeps, and could not share leases");
                let rule = "who cannot share leases never scales to zero";
                self.violated(rule, what, change.at);
            }
            match change.to {
                0 => self.slept(pid, change.at),
                _ => self.woke(pid, change),
            }
        }
        if change.from == 0 {
            self.last_wake = change.at;
        }
        self.last_change = Some(change);
        self.history.push(change);
    }

    /// A process writes zero after it was informed that it could not wake the app.
    pub fn sleeps_without_a_way_back(&mut self, pid: usize, now: Time) {
        let rule = "who could not wake the app does not put it to sleep";
        self.violated(rule, format!("p{pid} writes zero"), now);
    }

    fn woke(&mut self, pid: usize, change: Change) {
        self.wakes += 1;
        if change.from != 0 {
            let what = format!("p{pid} has scaled from {} to {}", change.from, change.to);
            self.violated("replicas above zero change to zero alone", what, change.at);
        }
    }

    fn slept(&mut self, writer: usize, now: Time) {
        self.sleeps += 1;
        self.check_the_writer(writer, now);
        for pid in 0..self.shadows.len() {
            if self.shadows[pid].alive {
                self.check_the_others(writer, pid, now);
            }
        }
    }

    /// Whether the writer, whose TTL is the shorter one, may have missed every lease of
    /// that proxy: one that it sees is respected for twice its length, and one that it
    /// does not see is shown again by a proxy that is not hindered.
    fn is_hidden(&self, writer: usize, pid: usize, now: Time) -> bool {
        let ttl = self.ttl_of(pid);
        let since = now - self.whole_ttl(pid) * 2;
        let has_missed =
            self.ttl_of(writer) < ttl && !self.shadows[writer].shown.has_seen(ttl, since);
        has_missed && self.is_hindered(writer, pid, now)
    }

    /// Whether that proxy has been stopped or in trouble since it has sent the renewal of its
    /// lease, and so lately that the writer can have been idle for its TTL meanwhile.
    fn is_hindered(&self, writer: usize, pid: usize, now: Time) -> bool {
        let shadow = &self.shadows[pid];
        let sent = shadow.lease.map(|(sent, _)| sent).unwrap_or_default();
        let calm_since = self.calm_since(pid);
        let is_recent = now < calm_since + RECOVERY + self.ttl_of(writer);
        shadow.stopped || (calm_since >= sent && is_recent)
    }

    fn check_the_writer(&mut self, writer: usize, now: Time) {
        let started = self.shadows[writer].started;
        if now < started + self.whole_ttl(writer) {
            let what = format!("p{writer} sleeps, and has started at {started:?}");
            self.violated("a restart needs a whole TTL before it sleeps", what, now);
        }
        let since = self.last_wake;
        let calm = self.calm_since(writer) < since && self.shadows[writer].started < since;
        if calm && now < since + self.whole_ttl(writer) {
            let what = format!("p{writer} sleeps, and somebody has woken the app at {since:?}");
            self.violated("a wake starts a whole TTL", what, now);
        }
    }

    fn check_the_others(&mut self, writer: usize, pid: usize, now: Time) {
        let is_hidden = self.is_hidden(writer, pid, now);
        if self.has_lease(pid, now) && !is_hidden {
            let what = format!(
                "p{writer} sleeps, and p{pid} is leased: {:?}",
                self.shadows[pid].lease
            );
            self.violated("nobody sleeps under the lease of another", what, now);
        }
        let hidden = is_hidden && self.has_lease(pid, now);
        let hidden = hidden.then_some(ClientResult::LeaseHidden);
        if let Some(excuse) = self.excuse(pid, now).or(hidden) {
            self.excuses.insert((now, pid), excuse);
        }
        let calm = self.calm_since(pid) + self.ttl * 2 < now && !self.shadows[pid].stopped;
        // At zero no lease is in force, and a wake starts the TTL of whoever sees it.
        let last = self.shadows[pid].last_leased;
        let last = last.filter(|last| *last > self.last_wake);
        let respected = if is_hidden { writer } else { pid };
        if calm && last.is_some_and(|last| now < last + self.whole_ttl(respected)) {
            let what = format!("p{writer} sleeps, and p{pid} had a connection until {last:?}");
            self.violated(
                "the app sleeps no sooner than a TTL after the last connection",
                what,
                now,
            );
        }
    }

    /// Why that proxy may have connections open while another one sleeps.
    fn excuse(&self, pid: usize, now: Time) -> Option<ClientResult> {
        let shadow = &self.shadows[pid];
        let lease = shadow.lease.map(|(sent, _)| sent);
        let since = lease.unwrap_or(shadow.started);
        if shadow.stopped || shadow.last_stop.is_some_and(|at| at + self.ttl >= since) {
            return Some(ClientResult::ProxyStopped);
        }
        let slot = self.slots.get(&shadow.slot).copied().unwrap_or_default();
        let own = shadow.own_trouble.max(slot);
        let is_cut_off = own > shadow.started && now < own + RECOVERY;
        is_cut_off.then_some(ClientResult::CutOff)
    }
}
