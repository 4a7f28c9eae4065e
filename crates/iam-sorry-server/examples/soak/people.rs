//! Sixteen people at work, and the book of what they were told.
//!
//! What the comparison may rely on is only what somebody was told for certain. A user whose deletion was asked for without a
//! clear answer is never spoken of again: the deletion may still come. A key is *held* from the answer that brought its secret
//! until its holder asks for anything that may take it away; while it is held it must work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::request;

use crate::department::{Department, token};

/// What was done and told.
#[derive(Default)]
pub struct Book {
    keys: Mutex<Keys>,
    done: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<String, u64>>,
    serial: AtomicU64,
}

#[derive(Default)]
pub struct Keys {
    /// Every key whose secret somebody got.
    pub delivered: BTreeSet<String>,
    /// Those that must work now, and whose they are.
    pub held: BTreeMap<String, String>,
    /// Those that did not work any more before their holder let them go.
    pub gone: BTreeSet<String>,
}

impl Book {
    pub fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().expect("nobody panicked")
    }

    /// How often what succeeded.
    pub fn done(&self) -> BTreeMap<&'static str, u64> {
        self.done.lock().expect("nobody panicked").clone()
    }

    /// How often what was answered instead.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().expect("nobody panicked").clone()
    }
}

/// xorshift: repeatable.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // It stays at zero for ever.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(1);
        dice
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What came back.
enum Told {
    Done(Value),
    /// The service's code; nothing was done.
    No(String),
    /// It may have been done, or may still be.
    Unclear,
}

struct Client<'a> {
    department: &'a Department,
    book: &'a Book,
    number: usize,
    dice: Dice,
    stop: &'a AtomicBool,
    /// The users of this client, by generation; none is ever used again after an unclear deletion.
    users: [Option<String>; 2],
    generation: u64,
}

/// Works until told to stop.
pub fn work(department: &Department, book: &Book, number: usize, seed: u64, stop: &AtomicBool) {
    let dice = Dice::new(seed ^ (number as u64 + 1) << 32);
    let mut client = Client { department, book, number, dice, stop, users: [None, None], generation: 0 };
    while !stop.load(Ordering::SeqCst) {
        client.step();
    }
}

impl Client<'_> {
    fn step(&mut self) {
        let slot = usize::try_from(self.dice.below(2)).unwrap_or(0);
        let Some(user) = self.users[slot].clone() else {
            self.new_user(slot);
            return;
        };
        match self.dice.below(100) {
            0..30 => self.new_key(&user),
            30..45 => self.rotate(&user),
            45..58 => self.delete_a_key(&user),
            58..70 => self.session(json!({"user": user, "duration_seconds": 900}), "user credentials"),
            70..80 => {
                let role = self.department.role.clone();
                self.session(json!({"role": role, "duration_seconds": 900}), "role credentials");
            }
            80..84 => self.policy(&user, true),
            84..88 => self.policy(&user, false),
            88..92 => self.dry_run(&user),
            92..95 => self.hang_up(&user),
            95..97 => self.look(&user),
            _ => self.delete_user(slot, &user),
        }
    }

    fn new_user(&mut self, slot: usize) {
        self.generation += 1;
        let adopt = self.dice.below(5) == 0;
        let name = format!("dirk-{}-{slot}-{}", self.number, self.generation);
        let told = if adopt {
            self.department.aws.hand_made_user(&name);
            self.authz_request("adopt user", "POST", &format!("/users/{name}/adopt"), &Value::Null)
        } else {
            let policies =
                if self.dice.below(2) == 0 { vec![self.department.policy.clone()] } else { vec![] };
            self.authz_request("create user", "POST", "/users", &json!({"name": name, "policies": policies}))
        };
        if matches!(told, Told::Done(_)) {
            self.users[slot] = Some(name);
        } else if adopt {
            // Nobody's: it must not count as left over.
            self.department.aws.remove_user_unless_tagged(&name);
        }
    }

    fn new_key(&mut self, user: &str) {
        match self.authz_request("create key", "POST", &format!("/users/{user}/keys"), &Value::Null) {
            Told::Done(key) => self.hold(user, &key),
            Told::No(code) if code == "conflict" => self.make_room(user),
            _ => {}
        }
    }

    /// As a person does who reads that there is no room: what nobody holds is deleted, or else the oldest.
    fn make_room(&mut self, user: &str) {
        let Told::Done(listed) =
            self.authz_request("list keys", "GET", &format!("/users/{user}/keys"), &Value::Null)
        else {
            return;
        };
        let listed = listed.as_array().or_else(|| listed["items"].as_array()).cloned().unwrap_or_default();
        let ids: Vec<_> = listed.iter().filter_map(|key| key["access_key_id"].as_str()).collect();
        let held = |id: &str| self.book.keys().held.contains_key(id);
        let first = ids.iter().find(|id| !held(id)).or_else(|| ids.first()).copied().map(str::to_owned);
        if let Some(id) = first {
            self.delete_key(user, &id);
        }
    }

    fn rotate(&mut self, user: &str) {
        let Some(old) = self.any_held(user) else { return };
        // From here on the old one may be inactive or gone.
        self.let_go(&old);
        let told = self.authz_request(
            "rotate key",
            "POST",
            &format!("/users/{user}/keys/{old}/rotate"),
            &Value::Null,
        );
        match told {
            Told::Done(key) => self.hold(user, &key),
            Told::No(code) if code == "conflict" => self.make_room(user),
            _ => {}
        }
    }

    fn delete_a_key(&mut self, user: &str) {
        if let Some(key) = self.any_held(user) {
            self.delete_key(user, &key);
        }
    }

    fn delete_key(&mut self, user: &str, key: &str) {
        self.let_go(key);
        self.authz_request(
            "delete key",
            "DELETE",
            &format!("/users/{user}/keys/{key}?force=true"),
            &Value::Null,
        );
    }

    fn session(&mut self, body: Value, what: &'static str) {
        let told = self.authz_request(what, "POST", "/credentials", &body);
        if let (Told::No(code), Some(user)) = (told, body["user"].as_str())
            && code == "conflict"
        {
            self.make_room(user);
        }
    }

    fn policy(&mut self, user: &str, attach: bool) {
        let policy = self.department.policy.clone();
        if attach {
            let path = format!("/users/{user}/policies");
            self.authz_request("attach policy", "POST", &path, &json!({"policy_arn": policy}));
        } else {
            let path = format!("/users/{user}/policies?policy_arn={}", policy.replace('/', "%2F"));
            self.authz_request("detach policy", "DELETE", &path, &Value::Null);
        }
    }

    fn dry_run(&mut self, user: &str) {
        self.authz_request("dry run", "POST", &format!("/users/{user}/keys?dry_run=true"), &Value::Null);
        self.authz_request("dry run", "DELETE", &format!("/users/{user}?dry_run=true"), &Value::Null);
    }

    fn look(&mut self, user: &str) {
        self.authz_request("show user", "GET", &format!("/users/{user}"), &Value::Null);
        self.authz_request("list users", "GET", "/users?limit=5", &Value::Null);
    }

    fn delete_user(&mut self, slot: usize, user: &str) {
        let keys: Vec<_> = {
            let keys = self.book.keys();
            keys.held.iter().filter(|(_, of)| *of == user).map(|(id, _)| id.clone()).collect()
        };
        keys.iter().for_each(|key| self.let_go(key));
        self.users[slot] = None;
        self.authz_request("delete user", "DELETE", &format!("/users/{user}"), &Value::Null);
    }

    /// Asks and goes away. Whatever comes of it, nobody holds it.
    fn hang_up(&mut self, user: &str) {
        let address = self.address();
        let text = format!(
            "POST /api/v1/users/{user}/keys HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
            token(self.number)
        );
        let sent = TcpStream::connect(&address).and_then(|mut stream| {
            stream.write_all(text.as_bytes())?;
            std::thread::sleep(Duration::from_millis(self.dice.below(20)));
            Ok(())
        });
        if sent.is_ok() {
            self.count("hang up");
        }
    }

    fn hold(&self, user: &str, key: &Value) {
        let Some(id) = key["access_key_id"].as_str() else { return };
        let mut keys = self.book.keys();
        keys.delivered.insert(id.to_owned());
        keys.held.insert(id.to_owned(), user.to_owned());
    }

    /// Its holder has it until now.
    fn let_go(&self, key: &str) {
        let mut keys = self.book.keys();
        if keys.held.remove(key).is_some() && self.department.aws.is_active(key) != Some(true) {
            keys.gone.insert(key.to_owned());
        }
    }

    fn any_held(&self, user: &str) -> Option<String> {
        let keys = self.book.keys();
        keys.held.iter().find(|(_, of)| *of == user).map(|(id, _)| id.clone())
    }

    fn address(&mut self) -> String {
        let instances = &self.department.instances;
        let which = usize::try_from(self.dice.below(instances.len() as u64)).unwrap_or(0);
        instances[which].service.address()
    }

    /// Asks until there is a clear answer, with the same Idempotency-Key, for a while.
    fn authz_request(&mut self, what: &'static str, method: &str, path: &str, body: &Value) -> Told {
        let serial = self.book.serial.fetch_add(1, Ordering::Relaxed);
        let bearer = format!("Authorization: Bearer {}", token(self.number));
        let key = format!("Idempotency-Key: soak-{serial:012}");
        let mut headers = vec!["Accept: application/json", &bearer];
        if method != "GET" {
            headers.push(&key);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            headers.push("Content-Type: application/json");
        }
        let path = format!("/api/v1{path}");
        for attempt in 0_u64..8 {
            let answer = request(&self.address(), method, &path, &headers, body.as_bytes());
            // One that is killed may leave half an answer.
            let answer = answer
                .ok()
                .and_then(|answer| Some((answer.status, serde_json::from_str::<Value>(&answer.body).ok()?)));
            match answer {
                Some((200..300, answer)) => {
                    self.count(what);
                    if attempt > 0 {
                        self.count("answered on a later try");
                    }
                    return Told::Done(answer);
                }
                Some((status, answer)) => {
                    let code = answer["code"].as_str().unwrap_or_default().to_owned();
                    let refused = format!("{what}: {status} {code}");
                    *self.book.refused.lock().expect("nobody panicked").entry(refused).or_default() += 1;
                    // Done before, under the same key, and what was secret about it is lost.
                    if status < 500 && code != "busy" && status != 429 {
                        return Told::No(code);
                    }
                }
                None => {}
            }
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            std::thread::sleep(Duration::from_millis(150 * (attempt + 1)));
        }
        Told::Unclear
    }

    fn count(&self, what: &'static str) {
        *self.book.done.lock().expect("nobody panicked").entry(what).or_default() += 1;
    }
}
