//! What a user would notice: bytes that change, values that differ, secrets that stay behind.

use proptest::prelude::*;

use super::*;

const CREDENTIALS: &str = "# my keys
[default]
aws_access_key_id = AKIAONE
AWS_Secret_Access_Key=s3cr3t/+=

; production, careful
[prod]   # the real one
\x20\x20
aws_access_key_id   =   AKIATWO   ; old
s3 =
    addressing_style = path

# inside the block
    max_concurrent_requests = 20
region = eu-west-1
 -continued # kept
[tail]
last = 1";

fn credentials(text: &str) -> Document {
    Document::parse(text.as_bytes(), FileKind::Credentials).unwrap()
}

fn config(text: &str) -> Document {
    Document::parse(text.as_bytes(), FileKind::Config).unwrap()
}

fn text(document: &Document) -> String {
    String::from_utf8(document.render()).unwrap()
}

fn set(before: &str, profile: &str, key: &str, value: &str) -> String {
    let mut document = credentials(before);
    document.set(profile, key, value).unwrap();
    assert_eq!(document.value(profile, key), Some(value));
    assert_eq!(credentials(&text(&document)).value(profile, key), Some(value));
    text(&document)
}

#[test]
fn reads_what_the_sdk_reads() {
    let document = credentials(CREDENTIALS);
    assert_eq!(text(&document), CREDENTIALS);
    assert_eq!(document.profiles(), ["default", "prod", "tail"]);
    assert_eq!(document.value("default", "aws_secret_ACCESS_key"), Some("s3cr3t/+="));
    assert_eq!(document.value("prod", "aws_access_key_id"), Some("AKIATWO"));
    assert_eq!(document.value("prod", "s3"), Some("\naddressing_style = path\nmax_concurrent_requests = 20"));
    assert_eq!(document.value("prod", "region"), Some("eu-west-1\n-continued # kept"));
    assert_eq!(document.value("prod", "addressing_style"), None);
    assert_eq!(document.value("nobody", "region"), None);
    assert_eq!(
        document.entries("default"),
        [("aws_access_key_id", "AKIAONE"), ("aws_secret_access_key", "s3cr3t/+=")]
    );
}

#[test]
fn duplicate_sections_and_keys_are_merged_and_the_last_wins() {
    let document = credentials("[a]\nx = 1\ny = 2\n[b]\n[ a ]\nX = 3\nz = 4\nz = 5\nbad key = 6\n");
    assert_eq!(document.profiles(), ["a", "b"]);
    assert_eq!(document.entries("a"), [("x", "3"), ("y", "2"), ("z", "5")]);
    assert!(document.contains("b") && document.entries("b").is_empty());
}

#[test]
fn config_names_its_profiles() {
    let document = config(
        "[default]\nx = 0\n[profile dev]\n[profile 'a b']\n[profile \"c d\"]\n[profile it\"'\"s]\n[profile ü]\n\
         [dev2]\n[sso-session s]\n[services v]\ns3 =\n  endpoint_url = http://x\n[profile a b]\n[plugins]\n",
    );
    assert_eq!(document.profiles(), ["default", "dev", "a b", "c d", "it's", "ü"]);
    let document = config("[profile default]\nx = 1\n[default]\ny = 2\n[profile default]\nz = 3\n");
    assert_eq!(document.entries("default"), [("x", "1"), ("z", "3")]);
}

#[test]
fn in_credentials_a_name_is_literal_and_prefixed_sections_are_not_profiles() {
    let document =
        credentials("[a b]\n[\"q\"]\n[profile x]\n[sso-session y]\n[DEFAULT]\n[profile]\n[]\n[a]b]\n");
    assert_eq!(document.profiles(), ["a b", "\"q\"", "profile"]);
}

#[test]
fn refuses_what_the_sdk_refuses_and_tells_the_line_but_no_value() {
    let reason = |text: &[u8]| {
        let error = Document::parse(text, FileKind::Credentials).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        (error.line, error.reason)
    };
    assert_eq!(reason(b"\n# c\nhush = 1\n[a]"), (3, ParseReason::OutsideSection));
    assert_eq!(reason(b"  hush"), (1, ParseReason::OutsideSection));
    assert_eq!(reason(b"[hush"), (1, ParseReason::HeaderNotClosed));
    assert_eq!(reason(b"[a#hush]"), (1, ParseReason::HeaderNotClosed));
    assert_eq!(reason(b"[a]\r\nhush"), (2, ParseReason::NoEquals));
    assert_eq!(reason(b"[a]\nkey: hush"), (2, ParseReason::NoEquals));
    assert_eq!(reason(b"[a]\n= hush"), (2, ParseReason::NoKey));
    assert_eq!(reason(b"[a]\nx = 1\n[b]\n hush"), (4, ParseReason::ContinuesNothing));
    assert_eq!(reason(b"[a]\ns3 =\n hush"), (3, ParseReason::NestedNoEquals));
    assert_eq!(reason(b"[a]\ns3 =\n = hush"), (3, ParseReason::NestedNoKey));
    assert_eq!(reason(b"[a]\nx = 1\n# \xff\n"), (3, ParseReason::NotUtf8));
    assert_eq!(reason(b"\xef\xbb\xbf[a]\n"), (1, ParseReason::ByteOrderMark));
}

#[test]
fn debug_shows_no_value() {
    assert!(!format!("{:?}", credentials("[a]\nk = hush\n")).contains("hush"));
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    let after = set(CREDENTIALS, "default", "aws_secret_access_key", "NEW");
    assert_eq!(after, CREDENTIALS.replace("s3cr3t/+=", "NEW"));
    assert_eq!(set("[a]\r\nk\t=  v \r\n", "a", "k", "w"), "[a]\r\nk\t=  w \r\n");
    assert_eq!(set("[a]\nk =\nl=\n", "a", "k", "w"), "[a]\nk = w\nl=\n");
    assert_eq!(set("[a]\nk =\nl=\n", "a", "l", "w"), "[a]\nk =\nl=w\n");
    assert_eq!(set("[a]\nk =v", "a", "k", "w"), "[a]\nk =w");
    assert_eq!(set("[a]\nk = v\n", "a", "k", ""), "[a]\nk = \n");
}

#[test]
fn setting_what_is_there_changes_no_byte() {
    assert_eq!(set(CREDENTIALS, "prod", "aws_access_key_id", "AKIATWO"), CREDENTIALS);
}

#[test]
fn an_inline_comment_moves_to_its_own_line_because_botocore_reads_it_as_value() {
    assert_eq!(set("[a]\r\nk = v ; old\r\n", "a", "k", "w"), "[a]\r\n; old\r\nk = w\r\n");
    assert_eq!(set("[a]\nk = v # old", "a", "k", "w"), "[a]\n# old\nk = w");
}

#[test]
fn continuation_lines_go_with_their_value_and_comments_between_them_stay() {
    let after = set(CREDENTIALS, "prod", "s3", "none");
    assert!(
        after.contains("s3 = none\n\n# inside the block\nregion = eu-west-1\n -continued # kept\n"),
        "{after}"
    );
    let mut document = credentials(CREDENTIALS);
    assert!(document.remove("prod", "REGION"));
    assert_eq!(text(&document), CREDENTIALS.replace("region = eu-west-1\n -continued # kept\n", ""));
}

#[test]
fn a_new_setting_goes_below_the_last_one() {
    assert_eq!(
        set(CREDENTIALS, "prod", "new", "1"),
        CREDENTIALS.replace("-continued # kept\n", "-continued # kept\nnew = 1\n")
    );
    assert_eq!(set(CREDENTIALS, "tail", "new", "1"), format!("{CREDENTIALS}\nnew = 1\n"));
    assert_eq!(set("[a]\r\n\r\n# c\r\n", "a", "k", "v"), "[a]\r\nk = v\r\n\r\n# c\r\n");
    assert_eq!(set("[a]\nx = 1\n[b]\n[a]\ny = 2\n", "a", "z", "3"), "[a]\nx = 1\n[b]\n[a]\ny = 2\nz = 3\n");
}

#[test]
fn a_new_profile_goes_to_the_end() {
    assert_eq!(set("", "a", "k", "v"), "[a]\nk = v\n");
    assert_eq!(set("# c\n", "a", "k", "v"), "# c\n\n[a]\nk = v\n");
    assert_eq!(set("[b]\r\nx=1", "a", "k", "v"), "[b]\r\nx=1\r\n\r\n[a]\r\nk = v\r\n");
    assert_eq!(set("[b]\nx=1\n\n", "a", "k", "v"), "[b]\nx=1\n\n[a]\nk = v\n");
    let mut document = Document::empty(FileKind::Config);
    document.set("a b", "region", "x").unwrap();
    document.set("default", "region", "y").unwrap();
    assert_eq!(text(&document), "[profile 'a b']\nregion = x\n\n[default]\nregion = y\n");
    assert_eq!(document.profiles(), ["a b", "default"]);
}

#[test]
fn no_stale_secret_stays_in_a_duplicate_or_a_default_that_does_not_count() {
    assert_eq!(set("[a]\nk = old\nk = old2\n[a]\nK = old3\n", "a", "k", "new").matches("old").count(), 0);
    let before = "[default]\nk = old\n[profile default]\nj = 1\n";
    let mut document = config(before);
    document.set("default", "k", "new").unwrap();
    assert_eq!(text(&document), "[default]\nk = new\n[profile default]\nj = 1\nk = new\n");
    assert!(document.remove("default", "k"));
    assert_eq!(text(&document), "[default]\n[profile default]\nj = 1\n");
}

#[test]
fn a_value_that_would_be_read_differently_is_refused() {
    for value in
        ["a #b", "a\t;b", " a", "a ", "a\u{a0}", "#a", "; a", "a\u{a0}#b", "a\nb", "a\rb", "a\0b", "\u{85}"]
    {
        let mut document = credentials("[a]\nk = v\n");
        for profile in ["a", "b"] {
            let error = document.set(profile, "k", value).unwrap_err();
            assert!(
                matches!(error, EditError::ReadsDifferently { .. } | EditError::ControlCharacter { .. }),
                "{value:?}: {error:?}"
            );
        }
        assert_eq!(text(&document), "[a]\nk = v\n");
    }
    for key in ["", "a b", "a=b", "a:b", "#a", "[a]", "a\nb", "ü"] {
        assert!(matches!(credentials("[a]\n").set("a", key, "v"), Err(EditError::Key { .. })), "{key:?}");
    }
}

#[test]
fn a_name_that_no_file_can_hold_is_refused() {
    for name in ["", " a", "a ", "a]", "[a", "a\nb", "a#b", "a;b", "a\0", "\u{a0}a"] {
        for kind in [FileKind::Credentials, FileKind::Config] {
            assert!(matches!(section_header(kind, name), Err(EditError::ProfileName { .. })), "{name:?}");
        }
    }
    for name in ["DEFAULT", "profile x", "sso-session x", "services\tx"] {
        assert!(section_header(FileKind::Credentials, name).is_err(), "{name:?}");
    }
    assert_eq!(section_header(FileKind::Config, "DEFAULT").unwrap(), "[profile DEFAULT]");
    assert_eq!(section_header(FileKind::Config, "profile x").unwrap(), "[profile 'profile x']");
    assert_eq!(section_header(FileKind::Config, "it's").unwrap(), r#"[profile 'it'"'"'s']"#);
    assert_eq!(section_header(FileKind::Credentials, "a b").unwrap(), "[a b]");
    assert!(every_sdk_reads("a-b/c.d%e@f:g+") && !every_sdk_reads("a b") && !every_sdk_reads(""));
}

#[test]
fn removing_a_profile_keeps_the_next_ones_comment() {
    let mut document = credentials(CREDENTIALS);
    assert!(document.remove_profile("default"));
    let kept = &CREDENTIALS[CREDENTIALS.find("; production").unwrap()..];
    assert_eq!(text(&document), format!("# my keys\n{kept}"));
    assert!(!document.remove_profile("default"));

    let mut document = credentials("[a]\nk=1\n# k=0\n\n# about b\n[b]\n[a]\n# end");
    assert!(document.remove_profile("a"));
    assert_eq!(text(&document), "# about b\n[b]\n");
    let mut document = credentials("[a]\nk=1\n# about b\n[b]\n");
    assert!(document.remove_profile("a"));
    assert_eq!(text(&document), "# about b\n[b]\n");
}

#[test]
fn renaming_changes_the_brackets_only() {
    let mut document = credentials(CREDENTIALS);
    document.rename_profile("prod", "live 1").unwrap();
    assert_eq!(text(&document), CREDENTIALS.replace("[prod]", "[live 1]"));
    assert!(matches!(document.rename_profile("prod", "x"), Err(EditError::NoSuchProfile { .. })));
    assert!(matches!(document.rename_profile("default", "tail"), Err(EditError::ProfileExists { .. })));
    assert!(matches!(document.rename_profile("default", "a]"), Err(EditError::ProfileName { .. })));

    let mut document = config("[ profile  \"a b\" ] ; c\nk=1\n[profile 'a b']\nl=2\n");
    document.rename_profile("a b", "default").unwrap();
    assert_eq!(text(&document), "[default] ; c\nk=1\n[default]\nl=2\n");

    let both = "[default]\nk=1\n[profile default]\nl=2\n";
    let mut document = config(both);
    assert!(matches!(document.rename_profile("default", "x"), Err(EditError::WouldDamage { .. })));
    assert_eq!(text(&document), both);
}

#[test]
fn a_lone_carriage_return_at_the_end_is_part_of_the_value_and_is_not_lost() {
    let mut document = credentials("[a]\nk = v\r");
    assert_eq!(document.value("a", "k"), Some("v\r"));
    assert!(document.set("b", "k", "v").is_err());
    assert_eq!(text(&document), "[a]\nk = v\r");
}

#[test]
fn a_big_file_is_edited_profile_by_profile() {
    let mut big = String::new();
    for n in 0..3_000 {
        big += &format!("[p{n}]\naws_access_key_id = {}\naws_secret_access_key = {n}\n\n", "A".repeat(150));
    }
    let mut document = credentials(&big);
    for n in 0..3_000 {
        document.set(&format!("p{n}"), "aws_secret_access_key", "x").unwrap();
    }
    assert_eq!(document.profiles().len(), 3_000);
    assert_eq!(document.render().iter().filter(|b| **b == b'x').count(), 3_000);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]",
        1 => Just("default".to_owned()),
        1 => "[a-b] [a-b]",
        1 => "[a'\"\\\\ü%]{1,3}",
    ]
}

fn line(kind: FileKind) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => name().prop_map(move |name| section_header(kind, &name).unwrap()),
        1 => "\\[ ?(profile )?\"?[a-c]{1,2}\"?\t?\\] ?(#[a-z]?)?",
        1 => "\\[(sso-session|services|profile default) ?[a-b]?\\]",
        6 => "[k-mK-M_]{1,2} ?= ?[a-c=]{0,3}( [#;] ?c)?",
        1 => "[kl]=",
        2 => "[ \t]{1,2}[x-z]{1,2} ?= ?[a-c]{0,2}",
        1 => "[#;][a-c= \\[]{0,3}",
        1 => "[ \t]{0,2}",
        1 => "[k-m]\u{a0}?=\u{a0}[#;]?ü?\r?",
    ]
}

/// Files as people write them: most parse; those that don't are left out.
fn file(kind: FileKind) -> impl Strategy<Value = String> {
    let ending = prop_oneof![4 => Just("\n"), 1 => Just("\r\n")];
    (proptest::collection::vec((line(kind), ending), 0..14), any::<bool>())
        .prop_map(|(lines, closed)| {
            let mut text: String = lines.into_iter().map(|(line, ending)| line + ending).collect();
            if !closed {
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
            }
            text
        })
        .prop_filter("a file that the SDK reads", move |text| Document::parse(text.as_bytes(), kind).is_ok())
}

fn any_file() -> impl Strategy<Value = (FileKind, String)> {
    prop_oneof![
        file(FileKind::Credentials).prop_map(|text| (FileKind::Credentials, text)),
        file(FileKind::Config).prop_map(|text| (FileKind::Config, text)),
    ]
}

fn own(pairs: Vec<(&str, &str)>) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// Everything that is read, by profile.
fn all(document: &Document) -> Vec<(String, Vec<(String, String)>)> {
    document.profiles().iter().map(|name| (name.to_string(), own(document.entries(name)))).collect()
}

/// The text of the sections that aren't this profile's.
fn others(document: &Document, profile: &str) -> Vec<String> {
    let other = document.views().filter(|view| view.name() != Some(profile));
    other.map(|view| view.text.trim_end_matches(['\r', '\n']).to_owned()).collect()
}

/// What an edit leaves must read the same when the file is read anew.
fn read_anew(document: &Document) -> Document {
    let anew = Document::parse(&document.render(), document.kind()).unwrap();
    assert_eq!(all(&anew), all(document));
    anew
}

/// Lines in any order: many of these the SDK refuses.
fn any_lines() -> impl Strategy<Value = (FileKind, String)> {
    prop_oneof![Just(FileKind::Credentials), Just(FileKind::Config)].prop_flat_map(|kind| {
        let ending = prop_oneof![4 => Just("\n"), 1 => Just("\r\n"), 1 => Just(" \n")];
        let broken = prop_oneof![9 => line(kind), 1 => "[a-c\\[\\]= #\"]{0,6}"];
        proptest::collection::vec((broken, ending), 0..14)
            .prop_map(move |lines| (kind, lines.into_iter().map(|(line, ending)| line + ending).collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_for_one_profile_reads_and_refuses_the_same(
        (kind, text) in any_lines(),
        name in prop_oneof![3 => name(), 1 => "[a-c]{1,2}|default"],
    ) {
        let whole = Document::parse(text.as_bytes(), kind);
        let one = Document::parse_for(text.as_bytes(), kind, &name);
        let told = |d: &Document| (d.contains(&name), own(d.entries(&name)));
        prop_assert_eq!(whole.as_ref().map(told), one.as_ref().map(told));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_kept_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), config: bool) {
        let kind = if config { FileKind::Config } else { FileKind::Credentials };
        if let Ok(document) = Document::parse(&bytes, kind) {
            prop_assert_eq!(document.render(), bytes);
        }
    }

    #[test]
    fn arbitrary_text_is_kept_or_refused(text in "([\\[\\]=#; \t\r\n'\"\\\\aü]|profile |default){0,60}", config: bool) {
        let kind = if config { FileKind::Config } else { FileKind::Credentials };
        if let Ok(document) = Document::parse(text.as_bytes(), kind) {
            prop_assert_eq!(document.render(), text.as_bytes());
        }
    }

    #[test]
    fn a_file_is_kept_byte_for_byte((kind, text) in any_file()) {
        prop_assert_eq!(Document::parse(text.as_bytes(), kind).unwrap().render(), text.into_bytes());
    }

    #[test]
    fn a_name_is_read_back_as_it_was_written(name in "\\PC{1,6}|[ a'\"\\\\]{1,8}", config: bool) {
        let kind = if config { FileKind::Config } else { FileKind::Credentials };
        if let Ok(header) = section_header(kind, &name) {
            let document = Document::parse(header.as_bytes(), kind).unwrap();
            prop_assert_eq!(document.profiles(), [name.as_str()]);
        }
    }

    #[test]
    fn set_gives_the_value_back_and_touches_nothing_else(
        (kind, text) in any_file(), profile in name(), key in "[k-nK]", value in "[a-d=#; ü]{0,4}",
    ) {
        let before = Document::parse(text.as_bytes(), kind).unwrap();
        let mut after = before.clone();
        match after.set(&profile, &key, &value) {
            Err(_) => prop_assert_eq!(after.render(), text.into_bytes()),
            Ok(()) => {
                prop_assert_eq!(after.value(&profile, &key), Some(value.as_str()));
                let anew = read_anew(&after);
                prop_assert_eq!(anew.value(&profile, &key), Some(value.as_str()));
                prop_assert_eq!(others(&after, &profile), others(&before, &profile));
                let rest = |d: &Document| -> Vec<(String, String)> {
                    let own = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
                    d.entries(&profile).iter().filter(|(k, _)| !k.eq_ignore_ascii_case(&key)).map(own).collect()
                };
                prop_assert_eq!(rest(&after), rest(&before));
                let once = after.render();
                after.set(&profile, &key, &value).unwrap();
                prop_assert_eq!(after.render(), once);
            }
        }
    }

    #[test]
    fn remove_takes_one_setting_and_leaves_the_others((kind, text) in any_file(), profile in name(), key in "[k-nK]") {
        let before = Document::parse(text.as_bytes(), kind).unwrap();
        let mut after = before.clone();
        let removed = after.remove(&profile, &key);
        prop_assert!(removed || before.value(&profile, &key).is_none());
        prop_assert_eq!(after.value(&profile, &key), None);
        prop_assert_eq!(others(&after, &profile), others(&before, &profile));
        let rest: Vec<_> =
            before.entries(&profile).into_iter().filter(|(k, _)| !k.eq_ignore_ascii_case(&key)).collect();
        prop_assert_eq!(after.entries(&profile), rest);
        read_anew(&after);
    }

    #[test]
    fn a_removed_profile_is_gone_and_the_others_stay((kind, text) in any_file(), profile in name()) {
        let before = Document::parse(text.as_bytes(), kind).unwrap();
        let mut after = before.clone();
        prop_assert_eq!(after.remove_profile(&profile), before.contains(&profile));
        let mut expected = all(&before);
        expected.retain(|(name, _)| *name != profile);
        prop_assert_eq!(all(&read_anew(&after)), expected);
    }

    #[test]
    fn a_renamed_profile_keeps_everything((kind, text) in any_file(), old in name(), new in name()) {
        let before = Document::parse(text.as_bytes(), kind).unwrap();
        let mut after = before.clone();
        match after.rename_profile(&old, &new) {
            Err(_) => prop_assert_eq!(after.render(), text.into_bytes()),
            Ok(()) => {
                let mut expected = all(&before);
                for (name, _) in expected.iter_mut().filter(|(name, _)| *name == old) {
                    name.clone_from(&new);
                }
                prop_assert_eq!(all(&read_anew(&after)), expected);
            }
        }
    }
}

#[test]
fn endpoints_of_services_are_read_where_the_profile_points() {
    let text = "[profile a]\nservices = mine\n[services mine]\nsts =\n  endpoint_url = http://old\n  \
                Endpoint_URL = http://sts=1\niam = flat\n[services  other]\nsts =\n  endpoint_url = http://other\n";
    let config = Document::parse(text.as_bytes(), FileKind::Config).unwrap();
    assert_eq!(
        config.service_value("mine", "sts", "endpoint_url"),
        Some("http://sts=1"),
        "the last one wins"
    );
    assert_eq!(config.service_value("other", "sts", "endpoint_url"), Some("http://other"));
    for (services, service, key) in [
        ("mine", "iam", "endpoint_url"),
        ("mine", "s3", "endpoint_url"),
        ("mine", "sts", "region"),
        ("a", "sts", "endpoint_url"),
        ("", "sts", "endpoint_url"),
    ] {
        assert_eq!(config.service_value(services, service, key), None, "{services} {service} {key}");
    }
    let credentials = Document::parse(text.as_bytes(), FileKind::Credentials).unwrap();
    assert_eq!(credentials.service_value("mine", "sts", "endpoint_url"), None, "config's alone");
}
