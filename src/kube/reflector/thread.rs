//! [`Reflector`]: the thread around a [`ReflectorCore`]. It makes the calls that the core decides
//! on, one at a time, and passes on its reports and log lines.

use std::io;
use std::sync::Arc;

use super::super::relist::{Interruption, RelistSignal};
use super::super::watcher_io::WatcherInput;
use super::caller::Caller;
use super::interface::{Output, ReflectorAction, ReflectorCore};
use crate::clock::{Clock, Time};
use crate::supervisor::{self, ThreadPanic};

/// The bytes of a watch that are read at a time.
const READ: usize = 16 * 1024;

/// A reflector.
pub(in crate::kube) struct Reflector<C, R> {
    core: C,
    signal: Arc<RelistSignal>,
    clock: Clock,
    report: R,
    pub(super) caller: Caller,
}

/// The seed of a core's jitter. Two proxies that start at the same time differ in the address of
/// `signal`, since the kernel randomises it (ASLR).
pub(in crate::kube) fn seed(signal: &Arc<RelistSignal>, clock: Clock) -> u64 {
    clock().since(Time::default()).as_nanos() as u64 ^ Arc::as_ptr(signal) as u64
}

impl<C: ReflectorCore + Send + 'static, R: Fn(C::Report) + Send + 'static> Reflector<C, R> {
    pub(in crate::kube) fn new(
        core: C,
        signal: Arc<RelistSignal>,
        clock: Clock,
        report: R,
    ) -> Self {
        Reflector {
            core,
            signal,
            clock,
            report,
            caller: Caller::new(),
        }
    }

    /// Starts the thread, which ends when the signal is closed.
    ///
    /// # Errors
    /// Only if no thread can be started.
    pub(in crate::kube) fn spawn(
        mut self,
        name: &'static str,
        panicked: impl Fn(ThreadPanic) + Send + 'static,
    ) -> io::Result<Arc<RelistSignal>> {
        let (signal, clock) = (self.signal.clone(), self.clock);
        supervisor::spawn(name, clock, move || self.run(), panicked)?;
        Ok(signal)
    }

    fn run(&mut self) {
        let mut action = self.handle(WatcherInput::Relist);
        while !self.signal.is_closed() {
            if action != ReflectorAction::Read {
                self.caller.close();
            }
            action = self.execute(action);
        }
    }

    fn execute(&mut self, action: ReflectorAction) -> ReflectorAction {
        let signal = self.signal.clone();
        // In this order: a request to relist either cancels these very calls or is seen here.
        let calls = signal.client.calls();
        let interruption = interruption(&action, self.core.is_listing());
        if let Some(signalled) = signal.take(interruption) {
            return self.handle(signalled.into());
        }
        let mut buffer = [0; READ];
        let event = match action {
            ReflectorAction::Get(path) => self.caller.get(&calls, &path),
            ReflectorAction::List(path) => self.caller.list(&calls, &path),
            ReflectorAction::Watch(path) => self.caller.watch(&calls, &path),
            ReflectorAction::Read => self.caller.read(&mut buffer),
            ReflectorAction::Wait => {
                signal.wait(self.core.poll_timeout(), (self.clock)());
                WatcherInput::Timeout
            }
        };
        if signal.take_request(interruption) {
            return self.handle(WatcherInput::Relist);
        }
        if event.is_from_server() {
            signal.received((self.clock)());
        }
        self.handle(event)
    }

    fn handle(&mut self, event: WatcherInput<'_>) -> ReflectorAction {
        self.core.set_draining(self.signal.is_draining());
        let action = self.core.handle(event, (self.clock)());
        for output in self.core.take_outputs() {
            match output {
                Output::Report(report) => (self.report)(report),
                Output::Log(level, text) => log::log!(level, "{text}"),
            }
        }
        action
    }
}

/// When a request for a list after the present one takes effect during an action.
fn interruption(action: &ReflectorAction, is_listing: bool) -> Interruption {
    match action {
        // After a failed list it pauses: no call is in progress.
        ReflectorAction::Wait => Interruption::AtOnce,
        _ if is_listing => Interruption::AfterList,
        ReflectorAction::Watch(_) | ReflectorAction::Read => Interruption::AtOnce,
        ReflectorAction::Get(_) | ReflectorAction::List(_) => Interruption::AfterCall,
    }
}
