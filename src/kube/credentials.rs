//! [`Credentials`]: the token to send and the TLS configuration, kept fresh while
//! files are replaced and credentials of an exec plugin expire.

mod cached;
mod tls;
mod verifier;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;
use ureq::http::{HeaderName, HeaderValue};

use self::cached::CachedPlugin;
use self::tls::{Identity, Material};
pub(super) use self::tls::{P521_CURE, Tls, client_config};
use super::access::{Access, Pem, TokenSource};
use super::text::{LogOnce, printable};
use super::token::Token;
use crate::clock::{Clock, Time, WallClock};

/// The interval at which files are read again. The kubelet replaces a token when a fifth of
/// its lifetime is left, which is at least two minutes.
const FRESH: Duration = Duration::from_secs(60);

/// The present token and TLS configuration, from files or a plugin.
pub(super) struct Credentials {
    access: Access,
    clock: Clock,
    plugin: Option<Arc<CachedPlugin>>,
    state: Mutex<State>,
}

struct State {
    /// The last token that was read from the file.
    token: Option<Token>,
    token_read: Time,
    material: Option<Material>,
    material_read: Time,
    material_log: LogOnce,
    tls: Option<Tls>,
    /// Counts the changes of `tls`.
    generation: u64,
}

impl Credentials {
    /// Reads every file once. The wall clock is used only for the expiry of credentials of
    /// an exec plugin.
    ///
    /// # Errors
    /// Why the roots or the client certificate cannot be used, and their source.
    pub(super) fn read(
        access: Access,
        clock: Clock,
        wall_clock: WallClock,
    ) -> Result<Self, String> {
        let material = Material::read(&access, None)?;
        let tls = material.as_ref().map(|material| material.tls(&access));
        let tls = tls.transpose()?;
        if let Some(remark) = material.as_ref().and_then(|it| it.remark(&access)) {
            log::warn!("{remark}");
        }
        let token = match &access.token {
            TokenSource::File { path, .. } => read_token(path).ok(),
            TokenSource::None | TokenSource::Fixed(_) => None,
        };
        let plugin = access.plugin.clone();
        let plugin = plugin.map(|plugin| CachedPlugin::new(plugin, clock, wall_clock));
        let now = clock();
        Ok(Credentials {
            access,
            clock,
            plugin,
            state: Mutex::new(State {
                token,
                token_read: now,
                material,
                material_read: now,
                material_log: LogOnce::default(),
                tls,
                generation: 0,
            }),
        })
    }

    /// The same at the beginning of 1970.
    #[cfg(test)]
    pub(super) fn new(access: Access, clock: Clock) -> Result<Self, String> {
        Self::read(access, clock, || 0)
    }

    /// `scheme://host:port`, with what comes before `/api`.
    pub(super) fn base_url(&self) -> String {
        format!("{}{}", self.access.server, self.access.prefix)
    }

    /// What time it is.
    pub(super) fn now(&self) -> Time {
        (self.clock)()
    }

    /// The certificates that the API server is verified against; `None` without TLS.
    pub(super) fn roots(&self) -> Option<&Pem> {
        self.access.roots.as_ref()
    }

    /// Whether the API server is spoken to over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.access.server.tls
    }

    /// The longest that a request may take, where somebody has said so.
    pub(super) fn request_timeout(&self) -> Option<Duration> {
        self.access.request_timeout
    }

    /// The headers of impersonation.
    pub(super) fn impersonation(&self) -> &[(HeaderName, HeaderValue)] {
        &self.access.impersonation
    }

    /// The token to send, read within the last minute; None if none is to be
    /// sent. May run the exec plugin.
    ///
    /// # Errors
    /// Why there is no token though there should be one. A request without it
    /// would be one of `system:anonymous`, and its 403 would pass for a missing
    /// permission.
    pub(super) fn token(&self) -> Result<Option<Token>, String> {
        match (&self.access.token, &self.plugin) {
            (TokenSource::Fixed(token), _) => Ok(Some(token.clone())),
            (TokenSource::File { path, fallback }, _) => {
                self.token_of(path, fallback.as_ref()).map(Some)
            }
            (TokenSource::None, Some(plugin)) => Ok(plugin.credential()?.token.clone()),
            (TokenSource::None, None) => Ok(None),
        }
    }

    fn token_of(&self, path: &Path, fallback: Option<&Token>) -> Result<Token, String> {
        let mut state = self.state();
        let stale = (self.clock)().since(state.token_read) >= FRESH;
        let missing = if stale || state.token.is_none() {
            self.read_token_again(&mut state, path).err()
        } else {
            None
        };
        let token = state.token.as_ref().or(fallback).cloned();
        token.ok_or_else(|| {
            let path = printable(&path.to_string_lossy());
            let why = missing.unwrap_or_default();
            format!("nothing is asked without a token: credentials file \"{path}\": {why}")
        })
    }

    /// Reads the token again, or runs the exec plugin, after a 401. Returns
    /// whether another try is worth it.
    pub(super) fn renew(&self) -> bool {
        match (&self.access.token, &self.plugin) {
            (TokenSource::File { path, .. }, _) => {
                let mut state = self.state();
                let _ = self.read_token_again(&mut state, path);
                state.token.is_some()
            }
            (TokenSource::None, Some(plugin)) => plugin.renew(),
            (TokenSource::None, None) => {
                // The client certificate may have run out, and been replaced.
                self.renew_tls();
                false
            }
            (TokenSource::Fixed(_), _) => false,
        }
    }

    /// The TLS configuration, None for plain HTTP, and a number that changes with
    /// it. May run the exec plugin, which may print a client certificate.
    pub(super) fn tls(&self) -> (u64, Option<Tls>) {
        let identity = self.plugin.as_ref().and_then(identity_of);
        let mut state = self.state();
        let stale = (self.clock)().since(state.material_read) >= FRESH;
        let replaced = state
            .material
            .as_ref()
            .is_some_and(|material| identity.is_some() && !material.shows(identity.as_ref()));
        if stale || replaced {
            self.read_tls_again(&mut state, identity);
        }
        (state.generation, state.tls.clone())
    }

    /// A handshake has failed: roots or client certificate may have been
    /// replaced.
    pub(super) fn renew_tls(&self) {
        let identity = self.plugin.as_ref().and_then(|plugin| {
            let current = plugin.current();
            current.and_then(|current| current.identity.clone())
        });
        self.read_tls_again(&mut self.state(), identity);
    }

    /// Keeps the old token if the file is empty, missing or unreadable, as it
    /// may be for a moment while it is replaced.
    fn read_token_again(&self, state: &mut State, path: &Path) -> Result<(), String> {
        state.token_read = (self.clock)();
        state.token = Some(read_token(path)?);
        Ok(())
    }

    /// Keeps what there is if it cannot be replaced.
    fn read_tls_again(&self, state: &mut State, identity: Option<Identity>) {
        state.material_read = (self.clock)();
        match self.changed_tls(state, identity) {
            Ok(None) => state
                .material_log
                .clear("the certificates can be used again"),
            Ok(Some((material, tls))) => {
                let remark = material.remark(&self.access);
                match remark {
                    Some(remark) => log::warn!("the certificates have changed; {remark}"),
                    // A plugin's change all the time.
                    None if self.plugin.is_some() => {}
                    None => log::info!("the certificates have changed: using the new ones"),
                }
                state.material = Some(material);
                state.tls = Some(tls);
                state.generation += 1;
                state.material_log = LogOnce::default();
            }
            Err(why) => {
                let why = format!("{why}; keeping what was there before");
                state.material_log.raise(Level::Warn, "tls", &why);
            }
        }
    }

    /// What is there now, if it is not what was there before.
    fn changed_tls(
        &self,
        state: &State,
        identity: Option<Identity>,
    ) -> Result<Option<(Material, Tls)>, String> {
        match Material::read(&self.access, identity)? {
            Some(material) if state.material.as_ref() != Some(&material) => {
                let tls = material.tls(&self.access)?;
                Ok(Some((material, tls)))
            }
            _ => Ok(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client certificate that the plugin has printed, if it has.
fn identity_of(plugin: &Arc<CachedPlugin>) -> Option<Identity> {
    // If there is none, the request for the token reports why.
    let credential = plugin.credential().ok().or_else(|| plugin.current())?;
    credential.identity.clone()
}

/// Whether what `access` names can be used, as far as that is known without the
/// API server.
pub(super) fn check(access: &Access) -> Result<(), String> {
    let material = Material::read(access, None)?;
    let tls = material.map(|material| material.tls(access));
    tls.transpose().map(drop)
}

fn read_token(path: &Path) -> Result<Token, String> {
    let text = std::fs::read_to_string(path).map_err(|cause| cause.to_string())?;
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Token::new(&text).ok_or_else(|| "it has characters that no token has".to_owned())
}

#[cfg(test)]
mod tests;
