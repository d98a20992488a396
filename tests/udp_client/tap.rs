//! `-x` and `--record`: the client writes down its datagrams.

use crate::harness::{netkit, temporary_folder, udp_server};

#[test]
fn datagrams_of_both_directions_are_dumped() {
    let server = udp_server([]).listen();
    netkit(["udp-client", "-x", &server.address(), "a", ""])
        .stdout("Hello, a!\nHello, !\n")
        .stderr(
            "> {*}Z 0000000 61                                      a\n\
             < {*}Z 0000000 4865 6c6c 6f2c 2061 21                  Hello, a!\n\
             > {*}Z 0000001\n\
             < {*}Z 0000009 4865 6c6c 6f2c 2021                     Hello, !\n",
        )
        .run();
}

#[test]
fn a_relay_is_recorded() {
    let server = udp_server(["--service", "echo"]).listen();
    let folder = temporary_folder();
    netkit([
        "udp-client",
        "--relay",
        "--wait-after-eof",
        "0.2",
        "--record",
        "all",
    ])
    .arg(server.address())
    .current_dir(folder.path())
    .stdin("abc")
    .stdout("abc")
    .run();
    assert_eq!(std::fs::read(folder.path().join("all")).unwrap(), b"abcabc");
}

#[test]
fn a_dump_to_standard_output_is_refused() {
    for option in ["--hex-dump", "--record"] {
        let folder = temporary_folder();
        netkit(["udp-client", option, "-", "127.0.0.1:9", "x"])
            .current_dir(folder.path())
            .stderr(format!(
                "netkit: standard output is for what the peer sends ({option}); -x without FILE \
                 dumps to standard error, and ./- is a file of that name; \
                 see 'netkit udp-client -h'\n"
            ))
            .code(2)
            .run();
        assert!(!folder.path().join("-").exists());
    }
}

#[test]
fn a_dump_that_cannot_be_written_is_an_error() {
    let server = udp_server([]).listen();
    netkit(["udp-client", "-x", "/dev/full", &server.address(), "a"])
        .stderr("netkit: could not write /dev/full: no space left on device\n")
        .code(2)
        .run();
}
