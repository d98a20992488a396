//! A netkit that was built without the cargo feature `tls`.

use crate::harness::netkit;

#[test]
fn every_option_of_tls_is_refused_by_name() {
    let pin = format!("--tls-pin=sha256:{}", "0".repeat(64));
    let of_client: &[&str] = &[
        "--tls",
        "--tls-ca=x",
        &pin,
        "--tls-insecure",
        "--tls-name=x",
        "--tls-cert=x",
        "--tls-key=x",
        "--tls-alpn=x",
        "--tls-min=1.3",
        "--tls-allow-cut",
        "--tls-save-chain=x",
    ];
    let of_server: &[&str] = &[
        "--tls",
        "--tls-client-ca=x",
        "--tls-name=x",
        "--tls-cert=x",
        "--tls-key=x",
        "--tls-alpn=x",
        "--tls-min=1.3",
        "--tls-allow-cut",
    ];
    let of_forward: &[&str] = &[
        "--forward-tls",
        "--forward-tls-name=x",
        "--forward-tls-ca=x",
        "--forward-tls-insecure",
    ];
    for (subcommand, with, options) in [
        ("tcp-client", "-q", of_client),
        ("tcp-client", "-z", &["--tls-expiry=1d"]),
        ("tcp-server", "-q", of_server),
        ("tcp-server", "--forward=127.0.0.1:1", of_forward),
    ] {
        for option in options {
            let name = option.split('=').next().unwrap();
            netkit([subcommand, with, option, "127.0.0.1:1"])
                .stderr(format!(
                    "netkit: {name} does nothing with this netkit: it was built without the \
                     cargo feature tls; see 'netkit {subcommand} -h'\n"
                ))
                .code(2)
                .run();
        }
    }
    netkit(["tcp-client", "https://127.0.0.1:1/"])
        .stderr(
            "netkit: this netkit speaks no TLS: it was built without the cargo feature tls; \
             see 'netkit tcp-client -h'\n",
        )
        .code(2)
        .run();
}
