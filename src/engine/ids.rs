//! The ids of apps and of their ports.

/// The id of an app. No other app gets it while the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub u32);

/// The id of a port: its app, and its index among the ports of that app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId {
    /// The app.
    pub app: AppId,
    /// The index, from 0 up.
    pub index: usize,
}
