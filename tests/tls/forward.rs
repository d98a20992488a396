//! `--forward` with TLS on one side, or on both.

use super::{client, server, usual};
use crate::harness::{netkit, random_bytes, tcp_server};

#[test]
fn either_side_or_both_can_be_encrypted() {
    let files = usual();
    let ca = files.path("ca.pem");
    let bytes = random_bytes(2_000_000);
    let plain = tcp_server(["--sh-exec", "cat"]).listen();
    let secret = server(&files, "own", &["--sh-exec", "cat"]);

    let outer = server(&files, "own", &["--forward", &plain.address()]);
    client(&files, &outer.address())
        .stdin(&bytes)
        .stdout(&bytes)
        .run();

    let to_target = ["--forward-tls", "--forward-tls-ca", &ca];
    let address = secret.address();
    let inner = tcp_server(["--forward", &address].into_iter().chain(to_target)).listen();
    netkit(["tcp-client", &inner.address()])
        .stdin(&bytes)
        .stdout(&bytes)
        .run();

    let forward: Vec<&str> = ["--forward", &address]
        .into_iter()
        .chain(to_target)
        .collect();
    let both = server(&files, "own", &forward);
    client(&files, &both.address())
        .stdin(&bytes)
        .stdout(&bytes)
        .run();
}

#[test]
fn a_target_that_is_not_trusted_is_a_reset_to_the_client() {
    let files = usual();
    let secret = server(&files, "own", &[]);
    let wrong = super::authority(&files, "wrong");
    drop(wrong);
    let forward = tcp_server([
        "--forward",
        &secret.address(),
        "--forward-tls",
        "--forward-tls-ca",
        &files.path("wrong.pem"),
    ])
    .listen();
    forward.expect_rejection();
    forward.wait_for_line(
        "Connection from {*} closed: could not trust {*}: its certificate is signed by CN=ca, {*}; it is \
         sha256:{*}; --forward-tls-ca and --forward-tls-name say what to expect.",
    );
}

#[test]
fn the_name_of_the_target_can_be_another() {
    let files = usual();
    let secret = server(&files, "own", &["--service", "echo"]);
    let forward = tcp_server([
        "--forward",
        &secret.address(),
        "--forward-tls",
        "--forward-tls-ca",
        &files.path("ca.pem"),
        "--forward-tls-name",
        "localhost",
    ])
    .listen();
    netkit(["tcp-client", &forward.address()])
        .stdin("x")
        .stdout("x")
        .run();
    let insecure = ["--forward", &secret.address(), "--forward-tls"];
    let insecure = tcp_server(insecure).arg("--forward-tls-insecure").listen();
    insecure.wait_for_line("netkit: any certificate is trusted (--forward-tls-insecure)");
    netkit(["tcp-client", &insecure.address()])
        .stdin("x")
        .stdout("x")
        .run();
    netkit([
        "tcp-server",
        "0",
        "--forward",
        ":1",
        "--forward-tls-insecure",
    ])
    .stderr("netkit: --forward-tls-insecure needs --forward-tls; see 'netkit tcp-server -h'\n")
    .code(2)
    .run();
}
