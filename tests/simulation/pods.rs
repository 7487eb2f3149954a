//! Pods, and the slices that list them.
//!
//! The controllers lag behind the Deployment as they do in a cluster: replicas
//! that go 1 → 0 → 1 before the controller looks leave the pod alive, and the
//! slices list a pod as ready for a while after it got a SIGTERM.

use std::net::SocketAddr;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::Pod;

use crate::deployment::Change;

/// Why a pod ends.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// The number of replicas was lowered.
    Scaled(Change),
    /// It has crashed.
    Crashed,
}

/// What a pod does to new connections that fails while it is listed as ready.
/// Those that it has go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It refuses them.
    Refuses,
    /// It does not answer.
    Swallows,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not ready yet.
    Starting,
    /// Ready.
    Serving,
    /// ClientResult to end, and still serving.
    Ending,
    /// No process listens there; the node still answers for the address.
    Refusing,
    /// Nobody answers for the address.
    Gone,
}

/// One pod.
pub struct SimPod {
    /// Where it is dialled.
    pub address: SocketAddr,
    /// How far it has come.
    pub life: Life,
    /// Why it ends, if it does.
    pub cause: Option<Cause>,
    /// How it treats new connections although it is listed, and until when.
    pub failure: Option<(Failure, Time)>,
    /// How long it goes on serving after a SIGTERM.
    pub grace: Duration,
}

impl SimPod {
    /// Whether it takes and serves connections.
    pub fn serves(&self) -> bool {
        matches!(self.life, Life::Serving | Life::Ending)
    }

    fn is_wanted(&self) -> bool {
        matches!(self.life, Life::Starting | Life::Serving)
    }
}

/// All there ever were. A pod's number is its UID, and its address is never
/// given to another.
#[derive(Default)]
pub struct SimPods(Vec<SimPod>);

/// The number of a pod.
pub type PodId = usize;

impl SimPods {
    /// Makes one that is starting.
    pub fn create(&mut self, grace: Duration) -> PodId {
        let id = self.0.len();
        let [high, low] = (id as u16 + 1).to_be_bytes();
        self.0.push(SimPod {
            address: ([10, 0, high, low], 80).into(),
            life: Life::Starting,
            cause: None,
            failure: None,
            grace,
        });
        id
    }

    /// The pod with that number.
    pub fn get(&mut self, id: PodId) -> &mut SimPod {
        &mut self.0[id]
    }

    /// The pod with that address.
    pub fn at(&self, address: SocketAddr) -> Option<&SimPod> {
        self.0.iter().find(|pod| pod.address == address)
    }

    /// How the pod with that address fails at that time, if it does.
    pub fn failure_at(&self, address: SocketAddr, now: Time) -> Option<Failure> {
        let (failure, until) = self.at(address)?.failure?;
        (now < until).then_some(failure)
    }

    /// Those that start or serve, the youngest last.
    pub fn wanted(&self) -> Vec<PodId> {
        let all = self.0.iter().enumerate();
        all.filter(|(_, pod)| pod.is_wanted())
            .map(|(id, _)| id)
            .collect()
    }

    /// What the endpoints controller would write now: an ending pod is listed
    /// as one that is not ready.
    pub fn listed(&self) -> Vec<Pod> {
        let all = self.0.iter().enumerate();
        let listed = all.filter(|(_, pod)| !matches!(pod.life, Life::Refusing | Life::Gone));
        listed
            .map(|(id, pod)| Pod {
                uid: format!("pod-{id}"),
                addresses: match pod.life {
                    Life::Serving => vec![pod.address],
                    _ => Vec::new(),
                },
                ..Pod::default()
            })
            .collect()
    }
}
