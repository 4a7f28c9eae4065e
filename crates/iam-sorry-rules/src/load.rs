//! From rule texts to validated policies, or to a list of every mistake with its place.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode};
use miette::Diagnostic;

use crate::cedar::Vocabulary;
use crate::limits;
use crate::literals;
use crate::rule::Rule;
use crate::settings::RuleSettings;

/// Rules of a department are a few dozen; this much text is 10,000 of them.
const MOST_BYTES: usize = 8 << 20;
/// Names and reasons go into answers, records and log lines.
const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 500;

/// A mistake in a rule file or in the settings that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// The file, as it was named at loading; `configuration` for the settings.
    pub file: String,
    /// From 1; 0 where it is about the whole file.
    pub line: usize,
    /// In characters, from 1; 0 where it is about the whole file.
    pub column: usize,
    /// What is wrong.
    pub text: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl RuleProblem {
    pub(crate) fn of_settings(text: String) -> Self {
        let (text, hint) = match text.split_once('\n') {
            Some((text, hint)) => (text.to_owned(), hint.to_owned()),
            None => (text, String::new()),
        };
        Self { file: "configuration".to_owned(), line: 0, column: 0, text, hint }
    }

    fn at(file: &str, text: &str, offset: usize, problem: String, hint: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { file: file.to_owned(), line, column, text: problem, hint: hint.into() }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.text)?;
        self.hint.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

pub(crate) struct Loaded {
    pub(crate) policies: Vec<Policy>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) warnings: Vec<RuleProblem>,
}

/// A policy with where it stands.
struct Placed<'a> {
    policy: Policy,
    file: &'a str,
    text: &'a str,
    /// Where its piece of the text begins, from where Cedar counts.
    from: usize,
    start: usize,
    /// The line of `start`, from 1.
    line: usize,
}

pub(crate) fn load(
    files: &[(String, String)],
    settings: &RuleSettings,
    vocabulary: &Vocabulary,
) -> Result<Loaded, Vec<RuleProblem>> {
    let mut problems = Vec::new();
    let size: usize = files.iter().map(|(_, text)| text.len()).sum();
    if size > MOST_BYTES {
        let text = format!("the rule files hold {size} bytes; at most {MOST_BYTES} are read");
        return Err(vec![RuleProblem::of_settings(text)]);
    }
    let mut placed = Vec::new();
    for (file, text) in files {
        let pieces = match limits::pieces(text) {
            Ok(pieces) => pieces,
            Err((offset, problem)) => {
                problems.push(RuleProblem::at(file, text, offset, problem, ""));
                continue;
            }
        };
        for piece in pieces {
            let from = piece.start;
            let Some(inside) = text.get(piece) else { continue };
            match PolicySet::from_str(inside) {
                Ok(set) => place(file, text, from, &set, &mut placed, &mut problems),
                Err(errors) => {
                    problems.extend(errors.iter().map(|e| of_diagnostic(file, text, from, from, e)));
                }
            }
        }
    }
    validate(&placed, vocabulary, &mut problems);
    let mut names = HashSet::new();
    let (mut policies, mut rules, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for one in &placed {
        let rule = describe(one, &mut names, &mut problems);
        let found = literals::check(&one.policy, settings, vocabulary);
        let here = |text: &String| RuleProblem::at(one.file, one.text, one.start, text.clone(), "");
        problems.extend(found.problems.iter().map(here));
        warnings.extend(found.warnings.iter().map(here));
        match found.folded {
            Ok(policy) => policies.push(policy),
            Err(problem) => problems.push(here(&problem)),
        }
        rules.push(Rule {
            numbers: found.numbers,
            calculates: found.calculates,
            groups: found.groups,
            ..rule
        });
    }
    if problems.is_empty() { Ok(Loaded { policies, rules, warnings }) } else { Err(problems) }
}

/// Numbers the policies of a file on from the last one's, in the order of the text, and finds where each begins.
fn place<'a>(
    file: &'a str,
    text: &'a str,
    piece: usize,
    set: &PolicySet,
    placed: &mut Vec<Placed<'a>>,
    problems: &mut Vec<RuleProblem>,
) {
    if set.num_of_templates() > 0 {
        let hint = "Write a rule without ?principal and ?resource.";
        problems.push(RuleProblem::at(file, text, piece, "templates are not used here".to_owned(), hint));
    }
    // Cedar calls them policy0, policy1, ... in the order of the text.
    let number = |p: &&Policy| {
        let id: &str = p.id().as_ref();
        id.strip_prefix("policy").and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX)
    };
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(number);
    let mut from = piece;
    // Counted on from rule to rule: from the top each time, long files would take minutes.
    let newlines = |from: usize, to: usize| text.as_bytes()[from..to].iter().filter(|b| **b == b'\n').count();
    let (mut line, mut counted) = (1 + newlines(0, piece), piece);
    for policy in policies {
        let source = policy.to_cedar().unwrap_or_default();
        let start = text.get(from..).and_then(|rest| rest.find(&source)).map_or(from, |at| from + at);
        line += newlines(counted, start);
        counted = start;
        from = (start + source.len()).min(text.len());
        let policy = policy.new_id(PolicyId::new(placed.len().to_string()));
        placed.push(Placed { policy, file, text, from: piece, start, line });
    }
}

/// Strictly, against the schema. What Cedar only warns of (a rule that can never apply, look-alike letters) is a mistake
/// here: a forbid that silently never applies is a hole.
fn validate(placed: &[Placed<'_>], vocabulary: &Vocabulary, problems: &mut Vec<RuleProblem>) {
    let set = match PolicySet::from_policies(placed.iter().map(|p| p.policy.clone())) {
        Ok(set) => set,
        Err(error) => return problems.push(RuleProblem::of_settings(error.to_string())),
    };
    let result = vocabulary.validator.validate(&set, ValidationMode::Strict);
    let of =
        |id: &PolicyId| AsRef::<str>::as_ref(id).parse::<usize>().ok().and_then(|place| placed.get(place));
    let errors = result.validation_errors().map(|e| (e.policy_id(), e as &dyn Diagnostic));
    let warnings = result.validation_warnings().map(|w| (w.policy_id(), w as &dyn Diagnostic));
    let mut found: Vec<_> = errors
        .chain(warnings)
        .filter_map(|(id, diagnostic)| {
            let one = of(id)?;
            Some(of_diagnostic(one.file, one.text, one.from, one.start, diagnostic))
        })
        .collect();
    // The same mistake is found once for every kind of request that the rule could apply to.
    found.sort_by_key(|p| (p.file.clone(), p.line, p.column));
    found.dedup();
    problems.extend(found);
}

/// A mistake that Cedar found, counting from `from`; where it doesn't say where, it is at `start`.
fn of_diagnostic(
    file: &str,
    text: &str,
    from: usize,
    start: usize,
    diagnostic: &(impl Diagnostic + ?Sized),
) -> RuleProblem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let offset = label.map_or(start, |label| from + label.offset());
    let said = diagnostic.to_string();
    // "for policy `17`, ..." names our own numbering.
    let said = match said.strip_prefix("for policy `").and_then(|rest| rest.split_once('`')) {
        Some((_, rest)) => rest.trim_start_matches([',', ':', ' ']).to_owned(),
        None => said,
    };
    let hint = diagnostic.help().map_or_else(String::new, |help| help.to_string());
    RuleProblem::at(file, text, offset, said, hint)
}

fn describe(one: &Placed<'_>, names: &mut HashSet<String>, problems: &mut Vec<RuleProblem>) -> Rule {
    let Placed { policy, file, text, start, .. } = one;
    let mut problem =
        |what: String, hint: &str| problems.push(RuleProblem::at(file, text, *start, what, hint));
    // Without its folders: where an operator keeps the rules is nothing that who is refused needs to know.
    let short = file.rsplit('/').next().unwrap_or(file);
    let printable = |s: &str, most: usize| s.chars().count() <= most && !s.chars().any(char::is_control);
    let name = match policy.annotation("id") {
        Some(id) if !id.is_empty() && printable(id, LONGEST_NAME) => id.to_owned(),
        Some(_) => {
            problem(format!("@id must be 1 to {LONGEST_NAME} printable characters"), "");
            String::new()
        }
        None => format!("{short}:{}", one.line),
    };
    if !name.is_empty() && !names.insert(name.clone()) {
        problem(format!("there are two rules called {name:?}"), "Give each rule its own @id.");
    }
    let reason = policy.annotation("reason").unwrap_or_default().to_owned();
    if !printable(&reason, LONGEST_REASON) {
        problem(format!("@reason must be at most {LONGEST_REASON} printable characters"), "");
    }
    let (effect, file) = (policy.effect(), short.to_owned());
    let source = policy.to_cedar().unwrap_or_default();
    Rule { name, file, reason, effect, source, numbers: Vec::new(), calculates: false, groups: Vec::new() }
}
