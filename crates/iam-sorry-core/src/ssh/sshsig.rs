//! The blob that an SSH key signs for us (OpenSSH PROTOCOL.sshsig, section 2).
//!
//! It starts with `SSHSIG` and names its purpose, so a signature made for one purpose (a login, a git commit) can
//! never serve another. `ssh-keygen -Y sign -n NAMESPACE` signs the same bytes, which makes it an independent check.

use aws_lc_rs::digest;

use super::wire::put_string;

/// The bytes to be signed for `message` under `namespace`, with SHA-512 as the message's hash.
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + namespace.len());
    out.extend_from_slice(b"SSHSIG");
    put_string(&mut out, namespace.as_bytes());
    put_string(&mut out, b""); // reserved
    put_string(&mut out, b"sha512");
    put_string(&mut out, digest::digest(&digest::SHA512, message).as_ref());
    out
}
