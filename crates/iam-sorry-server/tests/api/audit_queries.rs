//! Queries of the audit trail that cost much, beside everything else that the service does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::department::Department;

/// Words of two million records, filed as the service files them: every other record has the one word or the other, and
/// none has both. The records themselves lie before the trail's first, so that its chain stays what it is.
fn file_words(department: &Department, person: &str) {
    let database = rusqlite::Connection::open(department.path("store.db")).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    // Part by part, so that the service gets to write in between.
    for end in (-3_800_000..=0).step_by(200_000) {
        database
            .execute(
                "INSERT INTO audit_words (kind, word, time_ms, seq)
                 WITH RECURSIVE c(n) AS (SELECT ?2 - 200000 UNION ALL SELECT n + 1 FROM c WHERE n < ?2 - 1)
                 SELECT n % 2 + 2, CASE n % 2 WHEN 0 THEN ?1 ELSE 'common' END, n, n FROM c ORDER BY 1, 2, 3",
                rusqlite::params![person, end],
            )
            .unwrap();
    }
}

/// Issue 9, number 13: eight such requests took AssumeRole from 921/s to 17/s.
#[test]
fn broad_queries_of_the_trail_are_stopped_and_keep_nobody_waiting() {
    let department = Department::new();
    let people = ["ada", "bob", "eve"];
    let tokens = people.map(|name| department.sign_in(name));
    let me = department.get("/me", &tokens[0]).json();
    let person = me["session"]["person"].as_str().unwrap();
    file_words(&department, person);

    let under_way = AtomicUsize::new(8);
    let (department, under_way) = (&department, &under_way);
    std::thread::scope(|scope| {
        let queries: Vec<_> = (0..8)
            .map(|number| {
                // Ada asks for her own records; Bob, an auditor, for those of everybody.
                let (token, all) = [(&tokens[0], ""), (&tokens[1], "&all=true")][number % 2];
                let path = format!("/audit?resource=common&person={person}{all}");
                scope.spawn(move || {
                    let answer = department.get(&path, token);
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    answer
                })
            })
            .collect();
        let mut signed_in = 0;
        while under_way.load(Ordering::SeqCst) > 0 {
            // A new session each time: none is known from a moment ago.
            let token = department.sign_in("eve");
            let answer = department.get("/me", &token);
            assert_eq!(answer.status, 200, "{answer:?}");
            let role = department.post(
                "/credentials",
                &department.sign_in("ada"),
                serde_json::json!({"role": department.role, "duration_seconds": 900}),
            );
            assert_eq!(role.status, 200, "{role:?}");
            signed_in += 1;
        }
        assert!(signed_in > 0, "people signed in while the queries were under way");
        let answers = queries.into_iter().map(|query| query.join().unwrap());
        for answer in answers {
            let problem = answer.json()["code"].as_str().map(str::to_owned);
            match (answer.status, problem.as_deref()) {
                // A machine that is fast enough gives the answer: nothing.
                (200, None) | (422, Some("query-too-broad")) | (429, Some("too-many-requests")) => {}
                other => panic!("{other:?}"),
            }
        }
    });

    // A narrow query of the same words is answered, and so is the page.
    let narrow = format!("/audit?resource=common&person={person}&from=2026-01-01T00:00:00Z");
    assert_eq!(department.get(&narrow, &tokens[0]).status, 200);
}
