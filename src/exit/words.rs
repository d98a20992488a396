//! The words for errors that C libraries word differently, such as musl and that of macOS.

use rustix::io::Errno;

/// As the GNU C Library has them, in lower case. An error that is missing has one wording everywhere, or
/// concerns nothing that netkit does.
const WORDS: [(Errno, &str); 21] = [
    (Errno::ADDRINUSE, "address already in use"),
    (Errno::ADDRNOTAVAIL, "cannot assign requested address"),
    (Errno::BUSY, "device or resource busy"),
    (Errno::CONNABORTED, "software caused connection abort"),
    (Errno::DQUOT, "disk quota exceeded"),
    (Errno::HOSTUNREACH, "no route to host"),
    (Errno::IO, "input/output error"),
    (Errno::ISCONN, "transport endpoint is already connected"),
    (Errno::LOOP, "too many levels of symbolic links"),
    (Errno::MFILE, "too many open files"),
    (Errno::MSGSIZE, "message too long"),
    (Errno::NAMETOOLONG, "file name too long"),
    (Errno::NETRESET, "network dropped connection on reset"),
    (Errno::NETUNREACH, "network is unreachable"),
    (Errno::NOMEM, "cannot allocate memory"),
    (Errno::NOTCONN, "transport endpoint is not connected"),
    (Errno::NOTSOCK, "socket operation on non-socket"),
    (Errno::OPNOTSUPP, "operation not supported"),
    (Errno::OVERFLOW, "value too large for defined data type"),
    (Errno::SPIPE, "illegal seek"),
    (Errno::TIMEDOUT, "connection timed out"),
];

/// `None`: the words of the system are the same everywhere.
pub fn of(error: Errno) -> Option<&'static str> {
    WORDS
        .iter()
        .find_map(|(known, words)| (*known == error).then_some(*words))
}

/// The words of a resolver, which has no numbers for its errors, as the GNU C Library has them.
pub fn of_resolver(words: &str) -> &str {
    match words {
        "Name does not resolve" | "nodename nor servname provided, or not known" => {
            "Name or service not known"
        }
        "Name has no usable address" => "No address associated with hostname",
        "Try again" => "Temporary failure in name resolution",
        "Non-recoverable error" => "Non-recoverable failure in name resolution",
        _ => words,
    }
}
