//! Much data, single bytes, and a reader that does not read.

use std::io::Write as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{client, server, server_program, usual};
use crate::harness::{FullPipe, Process, random_bytes};

const MIB: usize = 1 << 20;

#[test]
fn much_data_passes_both_ways_at_once() {
    let files = usual();
    let bytes = random_bytes(20_000_000);
    let echo = server(&files, "own", &["--sh-exec", "cat"]);
    client(&files, &echo.address())
        .stdin(&bytes)
        .stdout(&bytes)
        .run();
}

/// Gives `$0 "$@"` 256 MiB, and tells the sums of what it got and of what it gave.
const SUMS: &str = "head -c 256M /dev/urandom \
    | tee >(sha256sum | sed 's/^/sent /' >&2) | \"$0\" \"$@\" | sha256sum | sed 's/^/received /' >&2";

#[test]
#[ignore = "takes long"]
fn a_quarter_of_a_gibibyte_passes_both_ways_at_once() {
    const LIMIT: Duration = Duration::from_secs(120);
    let files = usual();
    let server = server_program(&files, "own", &["-l"])
        .through(SUMS)
        .within(LIMIT)
        .listen();
    let client = client(&files, &server.address())
        .through(SUMS)
        .any_stderr()
        .within(LIMIT)
        .run();
    let server = server.finish();
    let sum = |log: &str, which: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix(which));
        line.unwrap_or_else(|| panic!("{which}: {log}")).to_owned()
    };
    assert_eq!(
        sum(&client.stderr, "sent "),
        sum(&server.stderr, "received ")
    );
    assert_eq!(
        sum(&server.stderr, "sent "),
        sum(&client.stderr, "received ")
    );
}

/// The most memory that a program has had.
fn peak(program: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .unwrap();
    number.parse::<usize>().unwrap() << 10
}

#[test]
fn a_reader_that_does_not_read_costs_no_memory() {
    const MOST: usize = 256 * MIB;
    const LATER: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    let files = usual();
    let pipe = FullPipe::new();
    let server = server_program(&files, "own", &["-l"]).stdout_to(pipe.end());
    let server = server.any_code().listen();
    let (input, mut feed) = std::io::pipe().unwrap();
    let client = client(&files, &server.address()).stdin_from(input);
    let client = client.any_code().any_stderr().start();
    rustix::io::ioctl_fionbio(&feed, true).unwrap();
    let mut sent = 0;
    loop {
        if let Ok(count) = feed.write(&[b'x'; 4096]) {
            sent += count;
        } else {
            let mut ready = [PollFd::new(&feed, PollFlags::OUT)];
            if poll(&mut ready, Some(&LATER)).unwrap() == 0 {
                break;
            }
        }
        assert!(sent < MOST, "the sender takes all");
    }
    // What has passed lies in the buffers of the system.
    for (name, peak) in [("client", peak(&client)), ("server", peak(&server))] {
        assert!(peak < 32 * MIB, "{name}: {peak} bytes after {sent}");
    }
}
