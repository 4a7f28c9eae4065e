//! Every page, rendered with lively data and with hostile data: the hostile one must come out as text. The lively ones are
//! written to `target/tmp/pages`, to be looked at.

use std::path::PathBuf;

use askama::Template;
use iam_sorry_core::api::NamespaceInfo;
use time::macros::date;
use zeroize::Zeroizing;

use super::chart::{Chart, Count};
use super::views::*;
use crate::authz::authorize::RuleFacts;

/// Breaks out of text, attributes and URLs wherever escaping is missing.
const HOSTILE: &str = r#"</title><script>alert(1)</script>"'><img src=x onerror=alert(2)>&{{7*7}}"#;

fn frame(title: &str, section: Section, person: &str) -> Frame {
    Frame {
        service: "Physics AWS".into(),
        version: "0.1.0",
        style: "style.css",
        title: title.into(),
        section,
        narrow: section == Section::None,
        person: (section != Section::None).then(|| person.to_owned()),
        form_token: "dG9rZW4".into(),
        key: "a2V5a2V5a2V5".into(),
        note: None,
    }
}

fn moment(text: &str) -> Moment {
    Moment::parse(text)
}

fn choice(value: &str, label: &str, selected: bool) -> Choice {
    Choice { value: value.into(), label: label.into(), selected }
}

fn rule(name: &str, forbids: bool, reason: &str) -> RuleFacts {
    RuleFacts { name: name.into(), forbids, reason: reason.into(), file: "lab.cedar".into() }
}

fn durations() -> Vec<Choice> {
    vec![choice("", "as long as the rules allow", true), choice("3600", "1 hour", false)]
}

/// All pages with `x` in every field that somebody else could fill.
fn pages(x: Option<&str>) -> Vec<(&'static str, String)> {
    let or = |text: &str| x.unwrap_or(text).to_owned();
    let person = or("Dirk Weber");
    let signed = |title: &str, section| frame(&or(title), section, &person);
    let arn = "arn:aws:iam::123456789012:policy/department/S3Projects";
    let policies = vec![Policy::new(or(arn)), Policy::new("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")];
    let grant = |resource: &str, kind, id: &str, state: &str, tone, left: &str| GrantRow {
        resource: or(resource),
        person: or("corp/4f6c"),
        kind,
        access_key_id: or(id),
        issued: moment("2026-11-22T18:57:00Z"),
        state: or(state),
        tone,
        left: left.into(),
    };
    let mut noted = signed("Users", Section::Users);
    noted.note = Some(Flash {
        tone: "good",
        title: or("dirk-simulation was deleted."),
        lines: vec![or("2 access keys deleted"), or("policy S3Projects detached")],
        reasons: vec![or("rule \"owners-manage-their-namespace\" (rules/lab.cedar) allows it")],
    });
    let card = |id: &str, label: &str, step| OfferCard { id: or(id), label: or(label), step };
    let offers = || {
        vec![
            card("corp", "Directory account", OfferStep::Password),
            card("sso", "University account", OfferStep::Provider(or("/login/oidc/sso"))),
            card(
                "ssh-key",
                "SSH key",
                OfferStep::Command(or("iam-sorry login https://aws.physics.example.edu")),
            ),
        ]
    };
    let mut all = vec![
        (
            "sign-in",
            SignInPage {
                frame: frame("Sign in", Section::None, ""),
                problem: None,
                username: or(""),
                next: or("/credentials"),
                offers: offers(),
            }
            .render(),
        ),
        (
            "sign-in-refused",
            SignInPage {
                frame: frame("Sign in", Section::None, ""),
                problem: Some(or("The directory does not accept this name and password.\nCheck both; after several tries, wait a minute.")),
                username: or("dirk"),
                next: or("/credentials"),
                offers: offers(),
            }
            .render(),
        ),
        (
            "dev-sign-in",
            DevSignInPage { frame: frame("Sign in", Section::None, ""), token: Zeroizing::new(or("t")) }.render(),
        ),
        ("signed-out", SignedOutPage { frame: frame("Signed out", Section::None, "") }.render()),
        (
            "credentials",
            CredentialsPage {
                frame: signed("Credentials", Section::Credentials),
                targets: vec![
                    ChoiceGroup { label: "Users", options: vec![choice(&or("user:dirk-simulation"), &or("dirk-simulation"), true)] },
                    ChoiceGroup { label: "Roles", options: vec![choice(&or("role:x"), &or("arn:aws:iam::123456789012:role/analysis"), false)] },
                ],
                has_namespace: true,
                durations: durations(),
                grants: vec![
                    grant("dirk-simulation", "User session", "ASIAQWERTYUIOPASDFGH", "active", "good", "11 h 12 min left"),
                    grant("arn:aws:iam::123456789012:role/analysis", "Role session", "ASIAQWERTYUIOPASDFGX", "expired", "", ""),
                    grant("dirk-backup", "Access key", "AKIAQWERTYUIOPASDFGX", "deleted", "", ""),
                ],
                everybody: false,
                next: Some(or("c")),
            }
            .render(),
        ),
        (
            "issued",
            IssuedPage {
                frame: signed("Credentials of dirk-simulation", Section::Credentials),
                resource: or("dirk-simulation"),
                notes: vec![or("You asked for 36 h; the rules allow 12 h.")],
                reasons: vec![or("rule \"lab-members\" (rules/lab.cedar) allows it")],
                arn: or("arn:aws:iam::123456789012:user/iam-sorry/dirk/dirk-simulation"),
                expires: Some(moment("2026-11-23T06:57:00Z")),
                left: "11 h 59 min left".into(),
                operation: or("op-7f2c"),
                environment: Zeroizing::new(or("export AWS_ACCESS_KEY_ID='ASIAQWERTYUIOPASDFGH'\nexport AWS_SECRET_ACCESS_KEY='wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'\nexport AWS_SESSION_TOKEN='IQoJb3JpZ2luX2VjEOn//////////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQDmuLdZmNPJnPTqXG8pwGUF4YzhQk4SXkqxaTvGkz5hQwIgZ9'")),
                section: Zeroizing::new(or("[dirk-simulation]\naws_access_key_id = ASIAQWERTYUIOPASDFGH\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\naws_session_token = IQoJb3JpZ2luX2VjEOn//////////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQDmuLdZmNPJnPTqXG8pwGUF4YzhQk4SXkqxaTvGkz5hQwIgZ9")),
                access_key_id: or("ASIAQWERTYUIOPASDFGH"),
                secret_access_key: Zeroizing::new(or("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")),
                session_token: Some(Zeroizing::new(or("IQoJb3JpZ2luX2VjEOn//////////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQDmuLdZmNPJnPTqXG8pwGUF4YzhQk4SXkqxaTvGkz5hQwIgZ9"))),
                confirm: None,
                back: "/credentials".into(),
            }
            .render(),
        ),
        (
            "namespace",
            NamespacePage {
                frame: noted,
                namespaces: vec![NamespaceInfo { name: or("dirk"), path: or("/iam-sorry/dirk/"), owners: vec![or("person:dirk"), or("group:lab-weber")] }],
                users: vec![
                    UserRow { name: or("dirk-simulation"), href: "/namespace/users/dirk-simulation".into(), namespace: or("dirk"), owner: or("corp/4f6c"), adopted: false, created: moment("2026-11-20T08:01:00Z") },
                    UserRow { name: or("dirk-backup"), href: "/namespace/users/dirk-backup".into(), namespace: or("dirk"), owner: or("corp/4f6c"), adopted: true, created: moment("2025-02-11T14:21:00Z") },
                ],
                next: Some(or("c")),
                policies: policies.clone(),
            }
            .render(),
        ),
        (
            "user",
            UserPage {
                frame: signed("dirk-simulation", Section::Users),
                name: or("dirk-simulation"),
                href: "/namespace/users/dirk-simulation".into(),
                arn: or("arn:aws:iam::123456789012:user/iam-sorry/dirk/dirk-simulation"),
                namespace: or("dirk"),
                owner: or("corp/4f6c"),
                adopted: false,
                created: moment("2026-11-20T08:01:00Z"),
                boundary: Some(or("arn:aws:iam::123456789012:policy/department-boundary")),
                policies: policies.clone(),
                attachable: policies.clone(),
                keys: vec![KeyRow { id: or("AKIAQWERTYUIOPASDFGX"), status: or("Active"), tone: "good", created: Some(moment("2026-11-20T08:01:00Z")), last_used: None, replaces: None, replaced: false, deleted_after: None }],
            }
            .render(),
        ),
        (
            "confirm",
            ConfirmPage {
                frame: signed("Delete dirk-simulation?", Section::Users),
                question: or("Delete dirk-simulation?"),
                explanation: or("The IAM user goes for good, with everything that hangs on it. Sessions that were issued for it end working."),
                goes: vec![or("the IAM user dirk-simulation"), or("access key AKIAQWERTYUIOPASDFGX (Active)"), or("the attachment of S3Projects")],
                action: "/namespace/users/dirk-simulation/delete".into(),
                button: or("Delete dirk-simulation and all of this"),
                back: "/namespace/users/dirk-simulation".into(),
            }
            .render(),
        ),
    ];
    all.extend(more_pages(&or, &signed));
    all.into_iter().map(|(name, page)| (name, page.unwrap())).collect()
}

type Rendered = (&'static str, askama::Result<String>);

fn more_pages(or: &dyn Fn(&str) -> String, signed: &dyn Fn(&str, Section) -> Frame) -> Vec<Rendered> {
    let counts: Vec<Count> = (1..=22)
        .flat_map(|n: u8| {
            let day = date!(2026 - 10 - 31) + time::Duration::days(n.into());
            [("sign-in", 9), ("issue-credentials", 17), ("create-user", 3), ("read-audit", 2)].map(
                |(action, most)| Count {
                    day,
                    action: or(action),
                    count: (u64::from(n) * 7 + most) % (most + 1),
                },
            )
        })
        .collect();
    let record = |seq: u64, action: &str, result, tone| RecordRow {
        id: format!("3f2a9c0145d67e88:{seq}"),
        label: format!("3f2a:{seq}"),
        time: moment("2026-11-22T18:57:00Z"),
        person: or("dirk"),
        action: or(action),
        resource: or("dirk-simulation"),
        result,
        tone,
    };
    let fact = |name: &str, value: &str, code| Fact { name: or(name), value: or(value), code };
    vec![
        (
            "audit",
            AuditPage {
                frame: signed("Audit", Section::Audit),
                auditor: true,
                filter: FilterForm {
                    person: or("dirk"),
                    resource: or(""),
                    from: or("2026-11-01"),
                    to: or(""),
                },
                actions: vec![choice("create-user", "create-user", true)],
                chart: Chart::draw(&counts, date!(2026 - 10 - 24), date!(2026 - 11 - 22)),
                too_broad: false,
                records: vec![
                    record(4711, "issue-credentials", "done", "good"),
                    record(4710, "issue-credentials", "begun", ""),
                    record(4709, "delete-user", "refused", "bad"),
                ],
                older: Some("/audit?cursor=x".into()),
            }
            .render(),
        ),
        (
            "record",
            RecordPage {
                frame: signed("Record 3f2a9c0145d67e88:4711", Section::Audit),
                id: or("3f2a9c0145d67e88:4711"),
                action: or("issue-credentials"),
                time: moment("2026-11-22T18:57:00Z"),
                result: "done",
                tone: "good",
                groups: vec![
                    FactGroup {
                        title: "Who",
                        facts: vec![
                            fact("Person", "dirk", false),
                            fact("Groups", "lab-weber, physics", false),
                        ],
                    },
                    FactGroup {
                        title: "In the chain",
                        facts: vec![fact(
                            "Hash",
                            "3f9a4bb1f5e67b0c7f0e5f3a8a6f2b1c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a",
                            true,
                        )],
                    },
                ],
                related: vec![Link { href: "/audit/4710".into(), label: "The intent".into() }],
            }
            .render(),
        ),
        (
            "rules",
            RulesPage {
                frame: signed("Rules", Section::Rules),
                answer: Some(Answer {
                    allowed: false,
                    title: or("No: attach-policy on dirk-simulation is not allowed."),
                    reasons: vec![or("guardrail: the policy AdministratorAccess is not on the allow-list")],
                    longest: None,
                }),
                actions: vec![choice("create-user", &or("create-user"), true)],
                resource: or("dirk-simulation"),
                policies: vec![choice(&or("x"), &or("S3Projects"), false)],
                durations: durations(),
                name: or("dirk"),
                id: or("corp/4f6c9b5e-1f0a-4c39-9d2b-8a7c6d5e4f3a"),
                method: or("ldap"),
                groups: vec![or("lab-weber"), or("physics")],
                namespaces: vec![or("dirk")],
                rules: vec![
                    rule(&or("owners-manage-their-namespace"), false, &or("")),
                    rule(&or("twelve-hours-at-most"), true, &or("long sessions are for clusters")),
                ],
                more_rules: 3,
            }
            .render(),
        ),
        (
            "sessions",
            SessionsPage {
                frame: signed("Sessions", Section::Sessions),
                everybody: true,
                sessions: vec![SessionRow {
                    id: or("s1"),
                    name: or("dirk"),
                    address: or("192.0.2.17"),
                    current: true,
                    method: or("ldap"),
                    signed_in: moment("2026-11-22T18:57:00Z"),
                    last_used: moment("2026-11-22T18:59:00Z"),
                    ends: moment("2026-11-23T06:57:00Z"),
                }],
                next: Some("/sessions?cursor=x".into()),
                switch: Some(Link { href: "/sessions".into(), label: "Only mine".into() }),
                keys: vec![SshKeyRow {
                    fingerprint: or("SHA256:1VqzYy0n3mPpJ0X1eYgqZ9Yx5t8m5yJ6N8y4s2u1aBc"),
                    comment: or("dirk@login1.cluster"),
                    registered: moment("2026-11-01T10:00:00Z"),
                    registered_by: None,
                }],
                may_register: true,
            }
            .render(),
        ),
        (
            "register-key",
            RegisterKeyPage {
                frame: signed("Register an SSH key", Section::Sessions),
                command: or("ssh-keygen -Y sign -n register-key@iam-sorry -f ~/.ssh/id_ed25519 <<'END'\nname: dirk\nEND"),
                nonce: or("nonce"),
                public_key: or("ssh-ed25519 AAAA dirk@login1.cluster"),
                expires: moment("2026-11-01T10:10:00Z"),
            }
            .render(),
        ),
        (
            "problem",
            ProblemPage {
                frame: signed("Not allowed", Section::Users),
                title: or("Not allowed"),
                lines: vec![
                    or("The rules don't allow create-user on anna-x."),
                    or("Ask an owner of the namespace anna."),
                ],
                reasons: vec![or(
                    "no rule allows create-user on anna-x: a rule must permit it (deny is the default)",
                )],
                retry_after: Some(30),
                links: vec![Link { href: "/namespace".into(), label: "Back to the users".into() }],
                code: "not-allowed".into(),
                status: 403,
                request_id: or("req-5k2j9x"),
            }
            .render(),
        ),
    ]
}

#[test]
fn pages_can_be_looked_at() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tmp/pages");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("style.css"), include_str!("../../static/style.css")).unwrap();
    for (name, page) in pages(None) {
        let page = page.replace("/static/icon.svg", "icon.svg");
        std::fs::write(folder.join(format!("{name}.html")), page).unwrap();
    }
    std::fs::write(folder.join("icon.svg"), include_str!("../../static/icon.svg")).unwrap();
}

/// CVE-2026-33758 (a page that shows what an attacker sent) and every other field that somebody else fills.
#[test]
fn hostile_text_in_every_field_stays_text() {
    // Nothing of anybody's is on the page after signing out.
    for (name, page) in pages(Some(HOSTILE)).into_iter().filter(|(name, _)| *name != "signed-out") {
        assert!(
            page.contains("alert(1)"),
            "{name}: the hostile text is not on the page, so this proves nothing"
        );
        assert!(
            !page.contains("<script") && !page.contains("<img src=x") && !page.contains("'><"),
            "{name}: {page}"
        );
        assert!(!page.contains("onerror=alert(2)>"), "{name}: {page}");
    }
}

/// What screen readers and people on a keyboard rely on, for every page.
#[test]
fn every_page_names_its_parts() {
    for (name, page) in pages(None) {
        assert_eq!(page.matches("<h1>").count(), 1, "{name}: one h1");
        assert!(page.contains("<html lang=\"en\">") && page.contains("<main id=\"main\""), "{name}");
        assert!(
            !page.contains("style=\"") && !page.contains("<style") && !page.contains(" onclick"),
            "{name}: CSP"
        );
        for tag in ["<input ", "<select ", "<textarea "] {
            for field in page.split(tag).skip(1).map(|rest| rest.split('>').next().unwrap()) {
                if field.contains("type=\"hidden\"") {
                    continue;
                }
                let id = field.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
                let id = id.unwrap_or_else(|| panic!("{name}: a field without id: {field}"));
                assert!(page.contains(&format!("for=\"{id}\"")), "{name}: {id} has no label");
            }
        }
        for form in page.split("<form method=\"post\"").skip(1) {
            let form = form.split("</form>").next().unwrap();
            assert!(
                form.contains("name=\"form_token\" value=\"dG9rZW4\""),
                "{name}: a form without its token: {form}"
            );
        }
    }
}
