//! Many people at once, a reconciler that hardly ever rests, and answers of AWS that get lost: nobody loses a key that they
//! were given, and every key is somebody's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use iam_sorry_core::api::{CreateUser, CredentialsRequest, DeleteKey, Options, ProblemCode};
use iam_sorry_core::audit::Phase;
use iam_sorry_core::ids::AccountName;
use iam_sorry_rules::RuleSet;
use iam_sorry_server::accounts::identity::ServiceIdentity;
use iam_sorry_server::accounts::registry::{Accounts, AwsAccount};
use iam_sorry_server::accounts::settings::IdentitySource;
use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_server::clock::Clock;
use iam_sorry_server::operations::action::RunOutput;
use iam_sorry_server::operations::life::AWS_TIME;
use iam_sorry_server::secret_ref::SecretRef;
use iam_sorry_server::service::{Parts, Service};
use iam_sorry_server::sessions::SignIn;
use iam_sorry_store::{PageRequest, Settings as StoreSettings, Store};
use testkit::{Chaos, MemoryAws, Postgres};

use crate::scene::{Instance, RULES, dirk, user_ref};
use crate::verbs::Verbs as _;

const CLIENTS: usize = 16;
const LASTS: Duration = Duration::from_secs(6);

/// What people were told.
#[derive(Default)]
struct Book {
    /// Keys that were handed out, and whose owners have not asked to have them deleted.
    held: BTreeMap<String, String>,
    made: usize,
    sessions: usize,
    gone: Vec<String>,
}

fn instance(aws: &MemoryAws, folder: &std::path::Path, settings: &StoreSettings, name: &str) -> Instance {
    let service = aws.service();
    let secret = folder.join("secret");
    std::fs::write(&secret, &service.secret).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut handle = iam_sorry_aws::Settings::new("us-east-1");
    (handle.endpoint_iam, handle.endpoint_sts) = (Some(aws.endpoint()), Some(aws.endpoint()));
    (handle.operation_timeout, handle.attempt_timeout) = (Some(AWS_TIME), Duration::from_secs(4));
    let boundary = aws.arn("policy/edge");
    let rules = format!(
        "namespace = [{{ name = \"dirk\", owners = [\"group:lab\"] }}]\n[guardrails]\npermissions_boundary = \"{boundary}\"\n"
    );
    let rules = RuleSet::load(&[("lab.cedar".into(), RULES.into())], toml::from_str(&rules).unwrap());
    let rules = Arc::new(ArcSwap::from_pointee(rules.unwrap()));
    let service = Service::new(Parts {
        store: Store::open(settings, name).unwrap(),
        rules: rules.clone(),
        accounts: Accounts::one(AwsAccount::new(
            AccountName::default(),
            iam_sorry_aws::Aws::new(&handle).unwrap(),
            ServiceIdentity::new(IdentitySource::AccessKey {
                id: service.key,
                secret: SecretRef::File(secret),
            }),
        )),
        actions: ActionSettings {
            settle_seconds: 1,
            reconcile_every: Duration::from_millis(3),
            ..ActionSettings::default()
        },
        sign_in: SignIn::closed().expect("an origin"),
        clock: Clock::system(),
        instance: name.to_owned(),
        other_instances: matches!(settings.engine, iam_sorry_store::Engine::Postgres { .. }),
    });
    Instance::of(service, rules)
}

/// One person, who makes keys and sessions for a user of their own until the time is over.
async fn work(service: Service, aws: Arc<MemoryAws>, book: Arc<Mutex<Book>>, lost: u32, name: String) {
    let caller = dirk();
    loop {
        let request = CreateUser { name: name.clone(), policies: Vec::new(), dry_run: false };
        match service.create_user(&caller, None, request).await {
            Ok(_) => break,
            Err(refusal) if refusal.code == ProblemCode::Conflict => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    let end = Instant::now() + LASTS;
    // On a busy machine until there was a load at all.
    let enough = || book.lock().unwrap().made >= 4 * CLIENTS && (lost == 0 || aws.lost() >= 3);
    while Instant::now() < end || !enough() {
        match service.create_access_key(&caller, None, &name, Options::default()).await {
            Ok(RunOutput::Acted(key)) => {
                let mut book = book.lock().unwrap();
                book.made += 1;
                book.held.insert(key.access_key_id, name.clone());
            }
            Ok(_) => panic!("a dry run"),
            // No room: what nobody accounts for goes, on the person's word.
            Err(refusal) if refusal.code == ProblemCode::Conflict => {
                for key in service.list_keys(&caller, &user_ref(&name)).await.unwrap_or_default() {
                    delete(&service, &aws, &book, &name, &key.access_key_id).await;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        let request = CredentialsRequest {
            user: Some(name.clone()),
            role: None,
            duration_seconds: Some(900),
            dry_run: false,
        };
        if service.issue_credentials(&caller, None, request).await.is_ok() {
            book.lock().unwrap().sessions += 1;
        }
        let oldest =
            book.lock().unwrap().held.iter().find(|(_, user)| **user == name).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest {
            delete(&service, &aws, &book, &name, &oldest).await;
        }
    }
}

/// Whoever deletes a key of theirs has it until then.
async fn delete(service: &Service, aws: &MemoryAws, book: &Mutex<Book>, name: &str, key: &str) {
    {
        let mut book = book.lock().unwrap();
        if book.held.remove(key).is_some() && aws.is_active(key) != Some(true) {
            book.gone.push(key.to_owned());
        }
    }
    let options = DeleteKey { force: true, dry_run: false };
    let _ = service.delete_access_key(&dirk(), None, name, key, options).await;
}

fn nobody_loses_a_key(settings: &StoreSettings, instances: usize, lost: u32) {
    Store::migrate(settings).unwrap();
    let (aws, folder) = (Arc::new(MemoryAws::start()), tempfile::tempdir().unwrap());
    aws.set_chaos(Chaos { seed: 9, lost, slow: 30, slow_for: Duration::from_millis(40) });
    let running: Vec<_> =
        (0..instances).map(|n| instance(&aws, folder.path(), settings, &format!("i{n}"))).collect();
    let book = Arc::new(Mutex::new(Book::default()));
    let people: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let at = &running[n % instances];
            at.spawn(work(at.service.clone(), aws.clone(), book.clone(), lost, format!("dirk-{n}")))
        })
        .collect();
    for person in people {
        running[0].run(person).unwrap();
    }
    aws.set_chaos(Chaos::default());
    running[0].settled();

    let book = Arc::into_inner(book).unwrap().into_inner().unwrap();
    assert!(
        book.gone.is_empty(),
        "of {} keys these were gone before their owners let them go: {:?}",
        book.made,
        book.gone
    );
    for (key, user) in &book.held {
        assert_eq!(aws.is_active(key), Some(true), "{key} of {user}, of {} keys", book.made);
    }
    let store = running[0].service.store();
    let mut known = BTreeSet::new();
    let mut page = PageRequest { cursor: None, limit: 500 };
    loop {
        let grants = running[0].run(store.list_grants(None, page)).unwrap();
        let live = grants.items.into_iter().filter(|grant| grant.new.kind == "access-key" && !grant.deleted);
        known.extend(live.map(|grant| grant.new.access_key_id));
        let Some(next) = grants.next else { break };
        page = PageRequest { cursor: Some(next), limit: 500 };
    }
    known.extend(running[0].run(store.unaccounted_keys()).unwrap().into_iter().map(|key| key.access_key_id));
    let there: BTreeSet<_> = aws.users().into_values().flat_map(|user| user.keys).map(|key| key.id).collect();
    assert_eq!(known, there, "what the store knows, and what IAM has");
    every_intent_has_one_outcome(&running[0]);
}

fn every_intent_has_one_outcome(running: &Instance) {
    let (mut intents, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
    for event in running.trail() {
        match (event.phase, event.operation) {
            (Phase::Intent, Some(operation)) => assert!(intents.insert(operation)),
            (Phase::Outcome, Some(operation)) => assert!(outcomes.insert(operation)),
            _ => {}
        }
    }
    assert_eq!(intents, outcomes);
}

fn sqlite() -> (StoreSettings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (StoreSettings::sqlite(folder.path().join("store.db")), folder)
}

fn postgres() -> StoreSettings {
    StoreSettings::postgres(Postgres::shared().database().into(), None).unwrap()
}

#[test]
fn nobody_loses_a_key_on_sqlite() {
    let (settings, _folder) = sqlite();
    nobody_loses_a_key(&settings, 1, 0);
}

#[test]
fn nobody_loses_a_key_on_sqlite_while_answers_of_aws_are_lost() {
    let (settings, _folder) = sqlite();
    nobody_loses_a_key(&settings, 1, 10);
}

#[test]
fn nobody_loses_a_key_with_two_instances_on_postgresql() {
    nobody_loses_a_key(&postgres(), 2, 0);
}

#[test]
fn nobody_loses_a_key_with_two_instances_on_postgresql_while_answers_of_aws_are_lost() {
    nobody_loses_a_key(&postgres(), 2, 10);
}
