//! The canonical form of a [`Proxy`]: the names of its versions and tokens.

use super::super::canonical;
use super::super::deployment::{CURRENT, Deployment, SEEN};
use super::{Call, Proxy};
use crate::cluster::LeaseToken;

impl Proxy {
    /// Gives versions and tokens their canonical names.
    pub fn rename(&mut self, deployment: &Deployment) {
        let Proxy {
            policy,
            call,
            event,
            ..
        } = self;
        let guards = canonical::versions(policy).chain(call.iter_mut().filter_map(Call::guard));
        for version in guards {
            canonical::rename_version(version, &deployment.version);
        }
        let watches = policy.watching;
        let (seen, observed) = canonical::shown(policy);
        let answer = call.as_mut().and_then(Call::shown);
        let (answered, answered_token) = answer.map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (observed, observed_token) = observed.map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (sent, sent_token) = event.as_mut().map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (seen, seen_token) = seen.map_or((None, None), |seen| {
            // Without a watch, it is compared with no other.
            (
                Some(&mut seen.version).filter(|_| watches),
                seen.lease_token.as_mut(),
            )
        });
        let shown = [seen, answered, observed, sent];
        canonical::rank_versions(shown.into_iter().flatten(), &deployment.version);
        let tokens = [
            (SEEN, seen_token),
            ("shown", answered_token),
            ("waiting", observed_token),
            ("sent", sent_token),
        ];
        rename_tokens(tokens, &deployment.token);
    }

    /// Removes the differences that have no effect on later behaviour; also the time from the
    /// start of the process to the last use of the app, which makes the rule about a sleep soon
    /// after the start stricter.
    pub fn forget(&mut self) {
        canonical::normalise(&mut self.policy);
        let unused = canonical::steps_unused(&self.policy);
        self.ghost.steps = self.ghost.steps.min(unused);
    }
}

/// Gives tokens their canonical names. Tokens are only compared with one another, and one that was
/// overwritten never returns: so each is named after the first place that has it.
fn rename_tokens(tokens: [(&str, Option<&mut LeaseToken>); 4], current: &LeaseToken) {
    let mut names = vec![(current.0.clone(), CURRENT.to_owned())];
    for (place, token) in tokens {
        let Some(LeaseToken(token)) = token else {
            continue;
        };
        let name = names.iter().find(|(known, _)| known == token);
        let name = name.map_or(place.to_owned(), |(_, name)| name.clone());
        names.push((std::mem::replace(token, name.clone()), name));
    }
}
