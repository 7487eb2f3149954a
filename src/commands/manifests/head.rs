//! The comment at the top of the output: what to do with it, command by command.

use std::ffi::OsString;
use std::fmt::Write;

use super::take_over::TakeOver;
use super::{INSTANCE, Install, NAME};
use crate::duration;

/// The comment of the note about an HPA.
const HPA: &str = "\
Beside a HorizontalPodAutoscaler of the app: it needs a minReplicas of 1 or more. It
leaves an app at zero alone, and goes on from --wake-replicas once it is awake, which
is best the same as its minReplicas. With minReplicas: 0 it scales to and from zero by
itself, and against the proxy.";

impl Install {
    /// The comment at the top: what this is, and how to apply, check and remove it.
    pub(super) fn head(&self, args: &[OsString]) -> String {
        let command = format!("zpa manifests {}", shell_words(args));
        let mut text = format!("{command}\n\n");
        match &self.take_over {
            None => self.write_steps(&mut text, &command),
            Some(taken) => self.write_take_over(&mut text, &command, taken),
        }
        self.write_routes(&mut text);
        if self.hpa_note {
            let _ = write!(text, "\n{HPA}\n");
        }
        let lines = text.lines().map(|line| format!("# {line}"));
        let lines = lines.map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }

    /// For clients that are pointed to another Service.
    fn write_steps(&self, text: &mut String, command: &str) {
        let (name, service, ttl) = (&self.name, &self.service, self.ttl());
        let (rollout, app) = (self.rollout(), self.app_flags(service));
        let _ = write!(
            text,
            "To install it, and to see that it works:\n  \
               {command} | kubectl apply -f -\n  \
               {rollout}\n  \
               zpa check {app}\n\
             Then point the clients to the Service {name} in place of {service}, within {ttl}\n\
             (--idle-ttl): what goes past the proxy does not count, and the app is put to sleep.\n\n"
        );
        self.write_page(text);
        let _ = write!(
            text,
            "\nTo remove it, wake the app, point the clients back to {service} when it is ready, and then\n\
             remove the rest:\n  \
               zpa wake {app}\n  \
               {kubectl} {ready} --timeout=5m\n  \
               zpa uninstall {app}\n",
            kubectl = self.kubectl(),
            ready = self.await_app(&[]),
        );
    }

    /// For a Service that the proxy takes over.
    fn write_take_over(&self, text: &mut String, command: &str, taken: &TakeOver) {
        let [there, back] = self.switches(taken);
        let (service, ttl, kubectl) = (&self.service, self.ttl(), self.kubectl());
        let (pods_service, rollout) = (&taken.pods_service, self.rollout());
        let _ = write!(
            text,
            "The Service {service} leads to the app until step 3, which changes nothing of it but its\n\
             selector.\n\n\
             1. Make the proxy, and {pods_service}, a Service of the app's pods for the proxy alone. Where\n   \
                there are NetworkPolicies, the app's has to admit the proxy's pods, and those of the\n   \
                clients have to let them connect there.\n     \
                  {command} | kubectl apply -f -\n\
             2. Wait until the proxy is ready; go on only if it is:\n     \
                  {rollout}\n\
             3. Lead the clients of {service} to the proxy, within {ttl} (--idle-ttl): until then they go\n   \
                past it, and it would put the app to sleep under them.\n     \
                  {kubectl} patch service {service} --type=merge -p '{there}'\n   \
                Connections that are open then go on past the proxy, and end when the app sleeps.\n\
             4. See that it works:\n     \
                  zpa check {}\n\n",
            self.app_flags(pods_service),
        );
        self.write_writers(text, taken);
        self.write_page(text);
        let _ = write!(
            text,
            "\nTo undo step 3, wake the app, and lead the clients back when it is ready:\n  \
               {kubectl} scale {target} --replicas={replicas}\n  \
               {kubectl} {ready} --timeout=5m\n  \
               {kubectl} patch service {service} --type=merge -p '{back}'\n\
             To remove all, which does the same first:\n  \
               zpa uninstall {app}\n",
            target = self.settings.target_ref,
            replicas = self.wake_replicas(),
            ready = self.await_app(&taken.selector),
            app = self.app_flags(service),
        );
    }

    /// The command of kubectl that waits until the app is ready, whose pods have these labels.
    fn await_app(&self, labels: &[(String, String)]) -> String {
        let target = self.settings.target_ref.to_string();
        let has_rollouts = ["deployments.apps/", "statefulsets.apps/"];
        if has_rollouts.iter().any(|kind| target.starts_with(kind)) {
            return format!("rollout status {target}");
        }
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<String> = labels.collect();
        let labels = match labels.is_empty() {
            true => "LABELS".to_owned(),
            false => labels.join(","),
        };
        format!("wait pod -l {labels} --for=condition=Ready")
    }

    /// Whatever may lead the clients back unasked.
    fn write_writers(&self, text: &mut String, taken: &TakeOver) {
        let service = &self.service;
        if !taken.writers.is_empty() {
            let _ = write!(
                text,
                "{service} is written by {} too: put the selector of step 3 there as well, or its next\n\
                 write leads the clients past the proxy.\n",
                taken.writers.join(", "),
            );
        }
        let added = self.added_keys(taken);
        if !added.is_empty() {
            let _ = write!(
                text,
                "Step 3 adds {} to the selector. Whoever applies another {service} has to\n\
                 take it away, as the undoing does: kubectl apply and Helm would leave it, and no pod\n\
                 may have all that the selector has then.\n",
                added.join(" and "),
            );
        }
        if !taken.writers.is_empty() || !added.is_empty() {
            text.push('\n');
        }
    }

    /// `zpa uninstall` knows objects by their name, which several routes cannot share.
    fn write_routes(&self, text: &mut String) {
        if self.routes.len() < 2 {
            return;
        }
        let (kubectl, instance) = (self.kubectl(), self.instance());
        let _ = writeln!(
            text,
            "and the TCPRoutes, one for each port:\n  \
               {kubectl} delete tcproutes -l {INSTANCE}={instance},{}={}",
            NAME.0, NAME.1
        );
    }

    fn write_page(&self, text: &mut String) {
        let port = self.settings.admin_listen.map_or(0, |at| at.port());
        let _ = write!(
            text,
            "To watch it:\n  \
               {} port-forward deployment/{} {port}\n\
             and look at http://localhost:{port}/\n",
            self.kubectl(),
            self.name,
        );
    }

    fn ttl(&self) -> String {
        duration::display(self.settings.idle_ttl).to_string()
    }

    fn kubectl(&self) -> String {
        match self.settings.namespace.as_deref() {
            Some(namespace) => format!("kubectl -n {namespace}"),
            None => "kubectl".to_owned(),
        }
    }

    fn rollout(&self) -> String {
        let (kubectl, name) = (self.kubectl(), &self.name);
        format!("{kubectl} rollout status deployment/{name} --timeout=5m")
    }

    /// The flags by which the other commands know the app, and the Service that they are to
    /// look at.
    fn app_flags(&self, service: &str) -> String {
        let namespace = self.settings.namespace.iter();
        let mut flags: Vec<String> = namespace.map(|it| format!("--namespace={it}")).collect();
        let app = self.variables.iter();
        let app = app.filter(|(flag, _)| ["deployment", "scale-target"].contains(flag));
        flags.extend(app.map(|(flag, value)| format!("--{flag}={value}")));
        if service != self.app {
            flags.push(format!("--service={service}"));
        }
        let flags: Vec<OsString> = flags.into_iter().map(OsString::from).collect();
        shell_words(&flags)
    }
}

fn shell_words(args: &[OsString]) -> String {
    let words: Vec<String> = args.iter().map(shell_word).collect();
    words.join(" ")
}

/// An argument quoted for a shell. A line break, which would end a
/// comment, becomes a blank.
fn shell_word(arg: &OsString) -> String {
    let text = arg.to_string_lossy().replace(char::is_control, " ");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/@%+".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
