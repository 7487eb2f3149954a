//! Blocking reads from sockets that a signal does not interrupt.

use std::io::{self, ErrorKind, Read};

/// Reads once, and again if nothing was read but a signal came: a process that is
/// stopped and continued, with all others of its machine perhaps, finds its reads
/// interrupted if they have a timeout, also without a handler (signal(7),
/// "Interruption of system calls and library functions by stop signals"). The
/// standard library repeats only reads of a given amount.
///
/// # Errors
/// What read(2) says but EINTR.
pub fn read_some(mut stream: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// Without another read it ends with EINTR.
    #[test]
    fn a_process_that_is_stopped_and_continued_goes_on_reading() {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        reader
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let script = format!("kill -STOP {0}; kill -CONT {0}; echo", std::process::id());
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stopping = std::thread::spawn(move || {
            let output = shell.wait_with_output().unwrap();
            writer.write_all(&output.stdout).unwrap();
        });
        assert_eq!(read_some(&reader, &mut [0]).unwrap(), 1);
        stopping.join().unwrap();
    }
}
