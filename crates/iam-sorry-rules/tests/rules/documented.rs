//! What docs/rules.md shows is loaded and run.

use iam_sorry_rules::{Action, RuleSet, RuleSettings, run_cases};

const PAGE: &str = include_str!("../../../../docs/rules.md");

#[test]
fn the_page_is_true() {
    let toml = blocks("toml");
    let (settings, cases) = (&toml[0], &toml[1]);
    let mut settings: toml::Table = toml::from_str(settings).unwrap();
    assert!(settings.remove("rules").is_some());
    let settings: RuleSettings = settings.try_into().unwrap();
    let rules = blocks("cedar");
    for rule in &rules {
        let alone = RuleSet::load(&[("docs".to_owned(), rule.clone())], settings.clone());
        assert!(alone.is_ok(), "{rule}\n{:?}", alone.err());
    }
    let all = RuleSet::load(&[("docs".to_owned(), rules.join("\n"))], settings).unwrap();
    assert!(all.len() >= 10 && all.warnings().is_empty(), "{:?}", all.warnings());
    for result in run_cases(&all, cases).unwrap() {
        assert!(result.passed(), "{result}");
    }
}

#[test]
fn every_action_and_group_of_the_schema_is_on_the_page() {
    for action in Action::ALL {
        assert!(PAGE.contains(&format!("`{}`", action.cedar_id())), "{action}");
    }
}

fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let inside = |part: &str| part.split("\n```").next().unwrap_or_default().to_owned();
    PAGE.split(fence.as_str()).skip(1).map(inside).collect()
}
