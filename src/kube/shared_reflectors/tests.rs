use super::*;
use crate::kube::testing;

/// A core that records its calls.
#[derive(Default)]
struct Recorder(Vec<String>);

impl ReflectorCore for Recorder {
    type Report = ();

    fn handle(&mut self, _: WatcherInput<'_>, _: Time) -> ReflectorAction {
        ReflectorAction::Wait
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }

    fn set_draining(&mut self, _: bool) {}

    fn take_outputs(&mut self) -> Vec<Output<()>> {
        Vec::new()
    }
}

impl SharedReflectorCore for Recorder {
    type App = &'static str;

    fn add(&mut self, app: AppKey, given: &'static str) {
        self.0.push(format!("add {app} {given}"));
    }

    fn remove(&mut self, app: AppKey) {
        self.0.push(format!("remove {app}"));
    }

    fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        self.0.push(format!("waiting {app} {is_waiting}"));
    }

    fn set_app_draining(&mut self, app: AppKey) {
        self.0.push(format!("draining {app}"));
    }
}

/// A reflector whose thread has not run yet, and its core.
fn shared() -> (SharedReflector<&'static str>, ApplyChangesFirst<Recorder>) {
    let access = testing::access(([127, 0, 0, 1], 1).into());
    let credentials = Credentials::new(access, testing::clock).unwrap();
    let client = Client::new(Arc::new(credentials), Arc::default());
    let reflector = SharedReflector {
        signal: Arc::new(RelistSignal::new(client)),
        changes: Arc::default(),
        apps: BTreeSet::new(),
        waiting: BTreeSet::new(),
        draining: BTreeSet::new(),
    };
    let core = ApplyChangesFirst {
        core: Recorder::default(),
        changes: reflector.changes.clone(),
    };
    (reflector, core)
}

#[test]
fn the_changes_of_an_app_are_applied_in_their_order_before_the_next_event() {
    type Change = fn(&mut SharedReflector<&'static str>);
    let cases: [(&str, &[Change], &[&str]); 4] = [
        (
            "added",
            &[|it| it.add(1, "a"), |it| it.set_waiting(1, true)],
            &["add 1 a", "waiting 1 true"],
        ),
        (
            "removed while it waits",
            &[
                |it| it.add(1, "a"),
                |it| it.set_waiting(1, true),
                |it| it.remove(1),
            ],
            &["remove 1"],
        ),
        (
            "its object was not found, and is found again",
            &[|it| it.remove(1), |it| it.add(1, "b")],
            &["remove 1", "add 1 b"],
        ),
        (
            "and drains then",
            &[
                |it| it.remove(1),
                |it| it.add(1, "b"),
                |it| it.set_draining(1),
            ],
            &["remove 1", "add 1 b", "draining 1"],
        ),
    ];
    for (label, changes, expected) in cases {
        let (mut reflector, mut core) = shared();
        changes.iter().for_each(|change| change(&mut reflector));
        core.handle(WatcherInput::Relist, Time::default());
        assert_eq!(core.core.0, expected, "{label}");
        core.handle(WatcherInput::Timeout, Time::default());
        assert_eq!(core.core.0.len(), expected.len(), "{label}: once");
    }
}

#[test]
fn an_app_is_added_with_the_next_list_and_removed_at_once() {
    let (mut reflector, mut core) = shared();
    reflector.add(1, "a");
    core.handle(WatcherInput::Relist, Time::default());
    reflector.remove(1);
    reflector.add(1, "b");
    reflector.set_waiting(1, true);
    reflector.add(2, "c");
    reflector.remove(2);
    core.handle(WatcherInput::Timeout, Time::default());
    assert_eq!(core.core.0, ["add 1 a", "remove 1", "remove 2"]);
    core.core.0.clear();
    core.handle(WatcherInput::Relist, Time::default());
    assert_eq!(core.core.0, ["remove 1", "add 1 b", "waiting 1 true"]);
}
