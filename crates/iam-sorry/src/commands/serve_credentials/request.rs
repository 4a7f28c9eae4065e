//! The part of HTTP/1.1 that the endpoint supports (RFC 9112), parsed strictly: an unusual request is refused.

/// The maximum size of a request's head in bytes; SDKs send a few hundred.
pub const LARGEST: usize = 8 * 1024;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub host: Option<&'a str>,
    pub authorization: Option<&'a str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The length of the head with its final empty line, once it is complete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Parses a complete head.
///
/// # Errors
/// [`Malformed`] for anything that RFC 9112 does not allow, and for bodies, repeated headers and folded lines.
pub fn parse(head: &[u8]) -> Result<Request<'_>, Malformed> {
    let text = std::str::from_utf8(head).map_err(|_| Malformed("the request is not ASCII"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(Malformed("the request has no end"))?;
    let mut lines = text.split("\r\n");
    let fits = |line: &str| line.chars().all(|c| c == '\t' || (' '..='~').contains(&c));
    let first = lines.next().filter(|line| fits(line)).ok_or(Malformed("the first line is no request"))?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed("the first line is no request"));
    };
    if method.is_empty() || target.is_empty() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(Malformed("the first line is no request"));
    }
    let mut request = Request { method, target, host: None, authorization: None };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed("a header has no colon"))?;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        // A space before the colon or at the start of a line can make a proxy and a server see different requests.
        if name.is_empty() || !name.chars().all(token) || !fits(value) {
            return Err(Malformed("a header is malformed"));
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => once(&mut request.host, value)?,
            "authorization" => once(&mut request.authorization, value)?,
            "content-length" if value != "0" => return Err(Malformed("the request has a body")),
            "transfer-encoding" => return Err(Malformed("the request has a body")),
            _ => {}
        }
    }
    Ok(request)
}

fn once<'a>(slot: &mut Option<&'a str>, value: &'a str) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed("a header is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_sdks_send() {
        let head = b"GET /x HTTP/1.1\r\nhost: 127.0.0.1:1\r\nAccept: */*\r\nAuthorization:  t \r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.method, request.target), ("GET", "/x"));
        assert_eq!((request.host, request.authorization), (Some("127.0.0.1:1"), Some("t")));
    }

    #[test]
    fn refuses_what_is_odd() {
        for head in [
            "",
            "\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nAuthorization: a\r\nauthorization: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_never_invents(head: Vec<u8>) {
            if let Ok(request) = parse(&head) {
                let text = std::str::from_utf8(&head).unwrap();
                proptest::prop_assert!(text.contains(request.method) && text.contains(request.target));
            }
        }

        #[test]
        fn a_header_comes_out_as_it_went_in(value in "[!-~]{1,40}") {
            let head = format!("GET /a HTTP/1.1\r\nX: 1\r\nAuthorization: {value}\r\n\r\n");
            let end = head_length(head.as_bytes()).unwrap();
            proptest::prop_assert_eq!(end, head.len());
            proptest::prop_assert_eq!(parse(head.as_bytes()).unwrap().authorization, Some(value.as_str()));
        }
    }
}
