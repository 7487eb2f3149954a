//! [`ReadyGate`]: what makes a pod ready for connections.

use std::fmt;
use std::str::FromStr;

use super::names;

/// What has to be so before connections are released to a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadyGate {
    /// The kubelet's probe has succeeded.
    #[default]
    Probe,
    /// That, or it has accepted a connection while no pod of the app is ready.
    Accept,
    /// It has sent a byte on a connection before it was sent one: after the kubelet's probe has
    /// succeeded, or sooner. For protocols in which the server speaks first.
    Greeting,
}

/// Every value by its spelling in the setting.
const NAMES: [(&str, ReadyGate); 3] = [
    ("probe", ReadyGate::Probe),
    ("accept", ReadyGate::Accept),
    ("greeting", ReadyGate::Greeting),
];

impl FromStr for ReadyGate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        names::parse(&NAMES, text)
    }
}

impl fmt::Display for ReadyGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(names::name(&NAMES, self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_known_by_its_name() {
        for (name, gate) in NAMES {
            assert_eq!(name.parse::<ReadyGate>(), Ok(gate));
            assert_eq!(gate.to_string(), name);
        }
        let error = "banner".parse::<ReadyGate>().unwrap_err();
        assert_eq!(error, "is none of probe, accept, greeting");
    }
}
