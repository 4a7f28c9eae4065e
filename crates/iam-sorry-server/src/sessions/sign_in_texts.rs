//! What people read when signing in fails. One text for all that may be wrong with a person's word, so that it tells
//! nothing to somebody else.

use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::identity::Method;
use iam_sorry_core::ssh::public_key::describe_type;
use iam_sorry_core::ssh::{PublicKey, PublicKeyError};

use crate::error::ServiceError;
use crate::login::LoginError;
use crate::login::limits::TooOften;

/// The same for a wrong password, an unknown name, a disabled account, a foreign key and an old challenge.
pub(crate) fn refusal() -> ServiceError {
    ServiceError::new(
        ProblemCode::SignInRefused,
        "The sign-in was refused.\nCheck the name and password, or that this SSH key is the one you registered; if they are \
         right, ask your department: its audit trail has the reason under the request's id.",
    )
}

pub(crate) fn not_checked(error: &LoginError) -> ServiceError {
    match error {
        LoginError::Broken(_) => ServiceError::new(
            ProblemCode::Internal,
            "The sign-in could not be checked, because the service is not set up for it properly.\nTell its operator; the \
             log says what.",
        ),
        _ => ServiceError {
            retry_after: Some(10),
            ..ServiceError::new(
                ProblemCode::DirectoryUnavailable,
                "The sign-in could not be checked, because the department's directory can't be reached.\nTry again in a \
                 minute.",
            )
        },
    }
}

/// A session whose person could not be looked up for too long.
pub(crate) fn not_confirmed() -> ServiceError {
    ServiceError {
        retry_after: Some(5),
        ..ServiceError::new(
            ProblemCode::DirectoryUnavailable,
            "The department's directory can't be reached, and for too long nobody has confirmed your account.\nTry again in a \
             minute; your session is still there.",
        )
    }
}

pub(crate) fn too_often(TooOften(seconds): TooOften) -> ServiceError {
    ServiceError {
        retry_after: Some(seconds),
        ..ServiceError::new(
            ProblemCode::TooManyRequests,
            format!("Too many sign-ins failed.\nTry again in {seconds} seconds."),
        )
    }
}

pub(crate) fn not_offered(method: Method) -> ServiceError {
    let how = match method {
        Method::SshKey => "by SSH key",
        Method::Ldap => "by password",
        Method::DevLink => "by a link",
    };
    ServiceError::new(ProblemCode::NotFound, format!("This service offers no sign-in {how}."))
}

pub(crate) fn public_key(line: &str) -> Result<PublicKey, ServiceError> {
    PublicKey::parse_line(line).map(|(key, _)| key).map_err(|error| match error {
        PublicKeyError::UnsupportedType(name) => bad_request(&format!(
            "This is {}: only Ed25519 keys can sign in.\nCreate one with: ssh-keygen -t ed25519",
            describe_type(&name)
        )),
        PublicKeyError::PrivateKey => bad_request(
            "This is a private key, which nobody should ever be sent.\nGive the file that ends in .pub, and make a new key: this \
             one has left your machine.",
        ),
        other => bad_request(&format!("The public key can't be used: it {other}.")),
    })
}

pub(crate) fn bad_request(detail: &str) -> ServiceError {
    ServiceError::new(ProblemCode::BadRequest, detail)
}
