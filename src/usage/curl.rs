//! The options of curl that netkit spells in another way or does not have.

const ONLY_GET: &str = "netkit asks with GET; write another request with --send, or into a pipe";
const ONLY_HTTP_1: &str = "netkit speaks HTTP/1.1";
const AS_RECEIVED: &str = "netkit prints what the server sends, with its status and header";

/// Options, and what to do instead.
const ROWS: &[(&[&str], &str)] = &[
    (&["-k", "--insecure"], "write --tls-insecure"),
    (&["--cacert"], "write --tls-ca FILE"),
    (&["-E", "--cert"], "write --tls-cert FILE"),
    (&["--key"], "write --tls-key FILE"),
    (&["-m", "--max-time"], "write --deadline TIME"),
    (&["-o", "--output"], "write > FILE"),
    (&["-s", "--silent"], "write -q"),
    (&["-S", "--show-error"], "leave it out: errors are shown"),
    (&["-L", "--location"], "netkit follows no redirects"),
    (&["-f", "--fail"], AS_RECEIVED),
    (&["--compressed", "--include"], AS_RECEIVED),
    (&["-0", "--http1.0", "--http1.1", "--http2"], ONLY_HTTP_1),
    (
        &["-I", "--head", "-X", "--request", "-d", "--data"],
        ONLY_GET,
    ),
    (&["-H", "--header", "-A", "--user-agent", "-e"], ONLY_GET),
    (&["-b", "--cookie", "-u", "--user"], ONLY_GET),
    (&["-F", "--form", "-T", "--upload-file"], ONLY_GET),
];

/// What to write in place of `option` where a page is fetched. `arguments` are all words.
pub fn advice(option: &str, subcommand: &str, arguments: &[String]) -> Option<&'static str> {
    let is_page = |word: &String| word.contains("://") || word.starts_with("--get");
    if subcommand != "tcp-client" || !arguments.iter().any(is_page) {
        return None;
    }
    let row = ROWS.iter().find(|(names, _)| names.contains(&option))?;
    Some(row.1)
}
