//! Sign-in by a real Active Directory (Samba's domain controller).

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_server::login::{LoginError, RejectReason};
use testkit::SambaAd;

use crate::setup::{Setup, key, now, person_of_key};

const PASSWORD: &str = "Correct-Horse-1";

fn refused(why: RejectReason) -> Result<Identity, LoginError> {
    Err(LoginError::Refused(why))
}

/// The whole domain is searched, so that it also answers with references to other partitions.
fn setup(ad: &SambaAd, url: String) -> Setup {
    Setup {
        urls: vec![url],
        start_tls: false,
        ca_file: Some(ad.ca_file()),
        anonymous: false,
        service_dn: ad.service_dn(),
        password: ad.service_password().to_owned(),
        users_base: ad.base().to_owned(),
        groups_base: ad.base().to_owned(),
        more: "kind = \"active-directory\"\nssh_key_attribute = \"altSecurityIdentities\"".into(),
    }
}

#[tokio::test]
async fn a_person_signs_in_with_nested_groups_over_ldaps_and_start_tls() {
    let ad = SambaAd::shared();
    ad.add_user("Nora", PASSWORD);
    for group in ["nora-inner", "nora-outer", "nora-outermost"] {
        ad.add_group(group);
    }
    ad.add_member("nora-inner", "Nora");
    ad.add_member("nora-outer", "nora-inner");
    ad.add_member("nora-outermost", "nora-outer");
    ad.add_member("nora-inner", "nora-outermost");
    let start_tls = Setup { start_tls: true, ..setup(ad, ad.url()) };
    for setup in [setup(ad, ad.tls_url()), start_tls] {
        let directory = setup.directory();
        directory.try_out().await.unwrap();
        let nora = setup.sign_in(&directory, "NORA", PASSWORD).await.unwrap();
        assert_eq!((nora.name.as_str(), nora.subject.len()), ("nora", 36));
        // The primary group is in no member attribute; what it is a member of counts too.
        let expected = ["domain users", "nora-inner", "nora-outer", "nora-outermost", "users"];
        assert_eq!(nora.groups.labels(), expected);
        for wrong in ["wrong", "correct-horse-1", ""] {
            assert_eq!(
                setup.sign_in(&directory, "nora", wrong).await,
                refused(RejectReason::WrongPassword),
                "{wrong}"
            );
        }
        assert_eq!(setup.sign_in(&directory, "no*", PASSWORD).await, refused(RejectReason::UnknownPerson));
        let again = directory.person(&nora.subject, Method::SshKey, now()).await.unwrap();
        assert_eq!(again.id(), nora.id(), "found again by the bytes of the objectGUID");
    }
}

#[tokio::test]
async fn accounts_that_are_not_in_force_are_refused_by_password_and_by_key() {
    let ad = SambaAd::shared();
    let setup = setup(ad, ad.tls_url());
    let directory = setup.directory();
    type OutOfForce = fn(&SambaAd, &str);
    let (disable, expire, lock): (OutOfForce, OutOfForce, OutOfForce) =
        (SambaAd::disable, SambaAd::expire, SambaAd::lock);
    let cases = [
        ("disa", 11, disable, vec![RejectReason::Disabled]),
        ("expi", 12, expire, vec![RejectReason::Expired]),
        // Which code comes with a locked account's bind differs between servers.
        ("lock", 13, lock, vec![RejectReason::Locked, RejectReason::WrongPassword]),
    ];
    for (name, number, out_of_force, reasons) in cases {
        ad.add_user(name, PASSWORD);
        let person_key = key(number);
        ad.set_attribute(&ad.user_dn(name), "altSecurityIdentities", &[&person_key.to_line("laptop")]);
        assert!(setup.sign_in(&directory, name, PASSWORD).await.is_ok(), "{name}");
        let later = crate::setup::later(i64::from(number) * 100);
        assert_eq!(person_of_key(&directory, &person_key, later).await.unwrap().name, name);
        out_of_force(ad, name);
        let by_password = setup.sign_in(&directory, name, PASSWORD).await;
        assert!(reasons.iter().any(|why| by_password == refused(*why)), "{name}: {by_password:?}");
        assert_eq!(person_of_key(&directory, &person_key, later).await, refused(reasons[0]), "{name}");
    }
    ad.enable("disa");
    assert!(setup.sign_in(&directory, "disa", PASSWORD).await.is_ok());
    ad.add_user("must", PASSWORD);
    ad.must_change_password("must");
    let by_password = setup.sign_in(&directory, "must", PASSWORD).await;
    assert!(matches!(by_password, Err(LoginError::Refused(_))), "{by_password:?}");
}

#[tokio::test]
async fn whoever_is_renamed_stays_who_they_are() {
    let ad = SambaAd::shared();
    ad.add_user("rena", PASSWORD);
    let setup = setup(ad, ad.tls_url());
    let directory = setup.directory();
    let before = setup.sign_in(&directory, "rena", PASSWORD).await.unwrap();
    ad.rename("rena", "renata");
    let after = setup.sign_in(&directory, "renata", PASSWORD).await.unwrap();
    assert_eq!((after.id(), after.name.as_str()), (before.id(), "renata"));
    assert_eq!(setup.sign_in(&directory, "rena", PASSWORD).await, refused(RejectReason::UnknownPerson));
}

#[tokio::test]
async fn a_plain_connection_is_refused_before_anything_is_sent() {
    let ad = SambaAd::shared();
    // Its address is of this machine, so the settings allow it; the directory itself wants more.
    let plain = Setup { ca_file: None, ..setup(ad, ad.url()) };
    let directory = plain.directory();
    let error = directory.try_out().await.unwrap_err();
    assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
}
