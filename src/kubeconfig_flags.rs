//! [`KubeconfigFlags`]: the flags that override parts of a kubeconfig, or choose among
//! its entries; those of client-go's `ConfigOverrides`.
//!
//! The settings make this value; the API threads use it together with the kubeconfig.

use std::fmt;
use std::time::Duration;

/// The overrides of a kubeconfig. `None` leaves the entry of the kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigFlags {
    /// `--kubeconfig`: the file to read, or several with colons between, as
    /// `$KUBECONFIG` has them.
    pub kubeconfig: Option<String>,
    /// `--context`: the context to use in place of `current-context`.
    pub context: Option<String>,
    /// `--cluster`: the entry of `clusters` to use in place of the context's.
    pub cluster: Option<String>,
    /// `--user`: the entry of `users` to use in place of the context's.
    pub user: Option<String>,
    /// `--server`: the API server's URL, in place of the cluster's.
    pub server: Option<String>,
    /// `--token`: the bearer token, in place of the user's.
    pub token: Option<Secret>,
    /// `--certificate-authority`: a PEM file with the roots to trust.
    pub certificate_authority: Option<String>,
    /// `--client-certificate`: a PEM file with the certificate to show.
    pub client_certificate: Option<String>,
    /// `--client-key`: a PEM file with the key of that certificate.
    pub client_key: Option<String>,
    /// `--request-timeout`: the longest that one request may take, above zero;
    /// `None` where it is 0, which in client-go means no limit.
    pub request_timeout: Option<Duration>,
    /// `--as`: the user to act as.
    pub impersonate: Option<String>,
    /// `--as-group`, which may be repeated: the groups to act as.
    pub impersonate_groups: Vec<String>,
}

/// A text that is never logged: its `Debug` output is `(hidden)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: &str) -> Secret {
        Secret(text.to_owned())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let flags = KubeconfigFlags {
            token: Some(Secret::new("canary")),
            ..KubeconfigFlags::default()
        };
        assert!(!format!("{flags:?}").contains("canary"));
        assert_eq!(flags.token.unwrap().expose(), "canary");
    }
}
