//! A row that moves much data through TLS. ncat is not in it: version 7.93 loses the last bytes.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use crate::bulk::{self, Data, Mover, command};
use crate::contest::{GIGABYTES, Row};
use crate::programs::{find, netkit};

/// A certificate for 127.0.0.1 and its key, as files in PEM.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let path = |kind: &str| {
            let name = format!("netkit-bench-{}.{kind}", process::id());
            std::env::temp_dir().join(name)
        };
        let files = Self {
            certificate: path("pem"),
            key: path("key"),
        };
        fs::write(&files.certificate, made.cert.pem())?;
        fs::write(&files.key, made.signing_key.serialize_pem())?;
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.certificate);
        let _ = fs::remove_file(&self.key);
    }
}

pub fn file_to_null() -> anyhow::Result<Row> {
    let mut row = Row::new("1 GiB, file → TLS → /dev/null", vec![GIGABYTES]);
    let data = Data::new(1 << 30)?;
    let files = Arc::new(Files::new()?);
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let words = [
        (
            "netkit",
            format!(
                "tcp-server --service stdio --recv-only --tls --tls-cert {certificate} --tls-key {key} -p PORT"
            ),
            format!("tcp-client --tls --tls-ca {certificate} 127.0.0.1 PORT"),
        ),
        (
            "socat",
            format!(
                "-u OPENSSL-LISTEN:PORT,bind=127.0.0.1,reuseaddr,verify=0,cert={certificate},key={key} -"
            ),
            "-u - OPENSSL:127.0.0.1:PORT,verify=0".to_owned(),
        ),
    ];
    for (name, receive, send) in words {
        let file = if name == "netkit" {
            Some(netkit().get_program().into())
        } else {
            find(name)
        };
        let Some(file) = file else {
            row.is_missing(name);
            continue;
        };
        let (other, files) = (file.clone(), Arc::clone(&files));
        let at = |words: &str, port: u16| words.replace("PORT", &port.to_string());
        let mover = Mover {
            name,
            receive: Box::new(move |port| {
                // They are there as long as the row.
                let _files = &files;
                command(&file, &at(&receive, port))
            }),
            send: Box::new(move |port| command(&other, &at(&send, port))),
        };
        bulk::add_to_null(&mut row, &data, mover);
    }
    Ok(row)
}
