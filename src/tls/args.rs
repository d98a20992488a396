//! The options of TLS, for clients and servers.

use std::path::PathBuf;
use std::time::Duration;

use crate::exit::Failure;
use crate::units::positive_duration;
use crate::usage::Typed;

/// What both ends may present and demand.
#[derive(Clone, Debug, Default, clap::Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the options"
)]
pub struct OwnArgs {
    /// Present the certificate in FILE (PEM)
    ///
    /// The certificates that signed it may follow.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Read the key in FILE [default: --tls-cert's]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Speak one of LIST, as in h2,http/1.1 (ALPN)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = protocol)]
    pub tls_alpn: Vec<String>,
    /// Speak no TLS before 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION")]
    pub tls_min: Option<Version>,
    /// Accept an end that TLS did not announce
    ///
    /// By default an end without `close_notify` is an error: anybody on the way may have cut the
    /// connection off.
    #[arg(long)]
    pub tls_allow_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// TLS 1.2 (RFC 5246)
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    #[value(name = "1.3")]
    Tls13,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClientTlsArgs {
    /// Encrypt with TLS, and verify the server
    #[arg(long, visible_alias = "ssl")]
    pub tls: bool,
    /// Trust the authorities in FILE, not the system's
    ///
    /// FILE may also hold the server's own certificate, which then needs no signer. May be
    /// repeated. Otherwise `SSL_CERT_FILE`, `SSL_CERT_DIR` or the system names the authorities.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Vec<PathBuf>,
    /// Trust only the certificate with this SHA-256
    ///
    /// As in sha256:3F:9C:..., whatever its name, its dates and its signer. May be repeated.
    #[arg(long, value_name = "sha256:HEX", value_parser = pin, conflicts_with_all = ["tls_ca", "tls_insecure"])]
    pub tls_pin: Vec<Pin>,
    /// Trust any certificate
    #[arg(long, conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// Ask for the server NAME, and verify that
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
    /// Save the server's certificates in FILE (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_save_chain: Option<PathBuf>,
    /// With -z: exit 1 if it expires within TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub tls_expiry: Option<Duration>,
    #[command(flatten)]
    pub own: OwnArgs,
    #[arg(skip)]
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "each option is refused")
    )]
    pub prefix: Prefix,
}

/// How the options begin that these are. Messages name them.
#[derive(Clone, Copy, Debug, Default)]
pub enum Prefix {
    #[default]
    Tls,
    /// A server's, for the target of `--forward`.
    ForwardTls,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerTlsArgs {
    /// Encrypt with TLS
    ///
    /// Without --tls-cert a certificate is made; its fingerprint is printed for --tls-pin.
    #[arg(long, visible_alias = "ssl")]
    pub tls: bool,
    /// Accept only clients that FILE's CA has signed
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Vec<PathBuf>,
    /// Put NAME into the certificate that is made
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert")]
    pub tls_name: Vec<String>,
    #[command(flatten)]
    pub own: OwnArgs,
    /// With --forward: speak TLS to the target
    #[arg(long)]
    pub forward_tls: bool,
    /// Ask the target for NAME, and verify that
    #[arg(long, value_name = "NAME")]
    forward_tls_name: Option<String>,
    /// Trust the authorities in FILE for the target
    #[arg(long, value_name = "FILE")]
    forward_tls_ca: Vec<PathBuf>,
    /// Trust any certificate of the target
    #[arg(long, conflicts_with = "forward_tls_ca")]
    forward_tls_insecure: bool,
}

impl ServerTlsArgs {
    /// How `--forward-tls` speaks to the target.
    pub fn to_target(&self) -> ClientTlsArgs {
        ClientTlsArgs {
            tls: self.forward_tls,
            tls_name: self.forward_tls_name.clone(),
            tls_ca: self.forward_tls_ca.clone(),
            tls_insecure: self.forward_tls_insecure,
            prefix: Prefix::ForwardTls,
            ..ClientTlsArgs::default()
        }
    }
}

/// SHA-256 of a certificate, in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin(pub String);

fn pin(text: &str) -> Result<Pin, String> {
    let hex = text.split_once(':').and_then(|(algorithm, hex)| {
        let is_known = algorithm.eq_ignore_ascii_case("sha256");
        is_known.then(|| hex.replace(':', "").to_ascii_lowercase())
    });
    match hex {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Pin(hex))
        }
        _ => Err(format!(
            "'{text}' is not a fingerprint; write sha256: and 64 hexadecimal digits"
        )),
    }
}

/// A name of an application protocol (RFC 7301, section 3.1).
fn protocol(text: &str) -> Result<String, String> {
    match text.len() {
        1..=255 => Ok(text.to_owned()),
        0 => Err("'' is no protocol; write names, as in h2,http/1.1".to_owned()),
        length => Err(format!("a protocol has at most 255 bytes, not {length}")),
    }
}

/// The ids of the options that need `--tls`.
const NEED_TLS: [&str; 12] = [
    "tls_expiry",
    "tls_ca",
    "tls_pin",
    "tls_insecure",
    "tls_name",
    "tls_save_chain",
    "tls_cert",
    "tls_key",
    "tls_alpn",
    "tls_min",
    "tls_allow_cut",
    "tls_client_ca",
];

/// The ids of the options that need `--forward-tls`.
const NEED_FORWARD_TLS: [&str; 3] = ["forward_tls_name", "forward_tls_ca", "forward_tls_insecure"];

/// Refuses options that do nothing. `has_tls`: a URL asks for TLS.
pub fn check_options(typed: &Typed, has_tls: bool) -> Result<(), Failure> {
    if !cfg!(feature = "tls") {
        let all = NEED_TLS.iter().chain(&NEED_FORWARD_TLS);
        let all: Vec<&str> = all.chain(&["tls", "forward_tls"]).copied().collect();
        return typed.exclude(
            &all,
            "this netkit: it was built without the cargo feature tls",
        );
    }
    if !has_tls {
        for option in NEED_TLS {
            typed.require(option, ("tls", "--tls"))?;
        }
    }
    typed.require("tls_key", ("tls_cert", "--tls-cert"))?;
    for option in NEED_FORWARD_TLS {
        typed.require(option, ("forward_tls", "--forward-tls"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pin_is_sha256_in_any_spelling() {
        let hex = "0123456789abcdef".repeat(4);
        let colons = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| str::from_utf8(pair).unwrap());
        let colons = colons.collect::<Vec<_>>().join(":").to_uppercase();
        for text in [format!("sha256:{hex}"), format!("SHA256:{colons}")] {
            assert_eq!(pin(&text), Ok(Pin(hex.clone())), "{text}");
        }
        for text in [
            "",
            &hex[..],
            "sha256:",
            "sha1:00",
            &format!("sha256:{hex}0"),
            &format!("sha256:{}g", &hex[1..]),
        ] {
            assert!(pin(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_pin_is_answered_without_a_panic(text in "(sha256:)?[0-9a-fA-F:]{0,100}|\\PC{0,70}") {
            if let Ok(Pin(hex)) = pin(&text) {
                prop_assert_eq!(hex.len(), 64);
                prop_assert_eq!(pin(&format!("sha256:{hex}")).unwrap().0, hex);
            }
        }
    }
}
