//! A netkit that was built without the cargo feature `tls`.

use crate::harness::netkit;

#[test]
fn every_option_of_tls_is_refused_by_name() {
    let of_client: &[&str] = &[
        "--tls",
        "--tls-ca=x",
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
    for (subcommand, options) in [("tcp-client", of_client), ("tcp-server", of_server)] {
        for option in options {
            let name = option.split('=').next().unwrap();
            netkit([subcommand, option, "127.0.0.1:1"])
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
