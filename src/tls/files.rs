//! The files of TLS: certificates and keys to read, the chain to save, and the log of session keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::OFlags;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{KeyLog, RootCertStore};

use super::certificate::hex;
use crate::escape::base64;
use crate::exit::{Exit, Failure, OrFail as _};
use crate::units::told;
use crate::wait::{Deadline, IN, if_ready, lock, wait_for};

pub type Chain = Vec<CertificateDer<'static>>;

/// All of a file. Of a pipe, this waits for the writer and for its end, until `limit`.
fn read(path: &Path, limit: Deadline) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let read = read_until(path, limit).or_fail(Exit::Local, || format!("could not read {name}"));
    read?.ok_or_else(|| {
        let time = told(limit.length());
        let message = format!("could not read {name}: it has not ended after {time} (--deadline)");
        Failure::new(Exit::Timeout, message)
    })
}

/// `None`: `limit` has passed.
fn read_until(path: &Path, limit: Deadline) -> io::Result<Option<Vec<u8>>> {
    let mut file = open(OpenOptions::new().read(true), path)?;
    let mut bytes = Vec::new();
    // A read of a pipe that has no writer yet would find its end. poll(2) waits for the first writer.
    loop {
        let is_ready = wait_for(file.as_fd(), IN, limit)?;
        if is_ready && if_ready(file.read_to_end(&mut bytes))?.is_some() {
            return Ok(Some(bytes));
        }
        if limit.has_passed() {
            return Ok(None);
        }
    }
}

/// The certificates of PEM files, at least one of each, which can be read as those of authorities.
/// Blocks as long as their pipes have not ended, until `limit`.
pub fn authorities(paths: &[PathBuf], limit: Deadline) -> Result<Chain, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let found = certificates(path, &read(path, limit)?)?;
        let mut store = RootCertStore::empty();
        let added = found.iter().try_for_each(|own| store.add(own.clone()));
        added.map_err(|_| {
            let name = path.display();
            Failure::local(format!(
                "could not read {name}: a certificate in it is malformed"
            ))
        })?;
        all.extend(found);
    }
    Ok(all)
}

/// The certificates in `pem`, at least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Chain, Failure> {
    let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(Failure::local(format!(
            "could not read {}: it has no certificate in PEM",
            path.display()
        ))),
    }
}

/// The certificates and the key that a side presents. Blocks as [`authorities`] does.
pub fn identity(
    certificate: &Path,
    key: Option<&PathBuf>,
    limit: Deadline,
) -> Result<(Chain, PrivateKeyDer<'static>), Failure> {
    const OTHERS: u32 = 0o007;
    let mut pem = read(certificate, limit)?;
    let chain = certificates(certificate, &pem)?;
    let path = key.map_or(certificate, PathBuf::as_path);
    // A pipe can be read once.
    if key.is_some() {
        pem = read(path, limit)?;
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let is_encrypted = pem.windows(9).any(|word| word == b"ENCRYPTED");
        let name = path.display();
        Failure::local(if is_encrypted {
            format!(
                "could not read {name}: its key is encrypted; openssl pkey -in {name} -out PLAIN writes a plain one"
            )
        } else {
            format!("could not read {name}: it has no key in PEM")
        })
    })?;
    if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & OTHERS != 0) {
        tracing::warn!(
            "every user of this machine can read the key in {}",
            path.display()
        );
    }
    Ok((chain, key))
}

/// Writes certificates as PEM.
pub fn save(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
    let mut pem = String::new();
    for certificate in chain {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = base64(certificate);
        for line in base64.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    let mut options = OpenOptions::new();
    let file = open(options.write(true).create(true).truncate(true), path);
    file.and_then(|mut file| file.write_all(pem.as_bytes()))
        .or_fail(Exit::Local, || {
            format!("could not write {}", path.display())
        })
}

/// Opens a file that neither this nor a read or a write ever waits for: a named pipe that nobody reads
/// cannot be opened for writing.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    options.custom_flags(flags).open(path)
}

/// `SSLKEYLOGFILE`: the keys of each session, by which Wireshark decrypts a capture. It may be none.
pub struct KeyFile(Option<Arc<Keys>>);

#[derive(Debug)]
struct Keys {
    file: Mutex<File>,
    path: PathBuf,
    /// Why keys are missing in the file.
    failure: OnceLock<Failure>,
    has_told: AtomicBool,
}

impl KeyFile {
    /// The file that the environment names. It is opened for appending, and created for its owner only.
    pub fn of_environment() -> Result<Self, Failure> {
        let Some(path) = std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()) else {
            return Ok(Self(None));
        };
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        let file = open(options.append(true).create(true).mode(0o600), &path);
        let file = file.or_fail(Exit::Local, || unwritable(&path))?;
        let name = path.display();
        tracing::warn!("{name} gets the session keys (SSLKEYLOGFILE): who reads it can decrypt");
        Ok(Self(Some(Arc::new(Keys {
            file: Mutex::new(file),
            path,
            failure: OnceLock::new(),
            has_told: AtomicBool::new(false),
        }))))
    }

    pub fn log(&self) -> Arc<dyn KeyLog> {
        match &self.0 {
            Some(keys) => Arc::clone(keys) as _,
            None => Arc::new(rustls::NoKeyLog {}),
        }
    }

    /// Fails if keys could not be written.
    pub fn check(&self) -> Result<(), Failure> {
        let failure = self.0.as_ref().and_then(|keys| keys.failure.get());
        failure.cloned().map_or(Ok(()), Err)
    }

    /// Logs once that keys could not be written.
    pub fn tell(&self) {
        if let Some(keys) = &self.0
            && let Some(failure) = keys.failure.get()
            && !keys.has_told.swap(true, Ordering::Relaxed)
        {
            tracing::error!("{failure}");
        }
    }
}

fn unwritable(path: &Path) -> String {
    format!("could not write {} (SSLKEYLOGFILE)", path.display())
}

impl KeyLog for Keys {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let written = lock(&self.file).write_all(line.as_bytes());
        if let Err(failure) = written.or_fail(Exit::Local, || unwritable(&self.path)) {
            let _ = self.failure.set(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_saved_can_be_read(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(&bytes));
            let read = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            prop_assert_eq!(&read[..], &bytes[..]);
        }
    }
}
