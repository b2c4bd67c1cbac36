//! A session in which statements are tried, and the traces of each.

use anyhow::Result;

use super::link::{Link, Refusal, is_copy};

/// The questions to a server before and after a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Questions {
    /// Told to every new session.
    pub(crate) settings: &'static str,
    /// Asked in the transaction of the statement: the locks and ids that it holds.
    pub(crate) held: &'static [&'static str],
    /// The meaning of an answer to `held`; `None` when the transaction holds nothing.
    pub(crate) meaning: fn(&str, session: &str) -> Option<String>,
    /// Asked outside of transactions, as one column `fact`: whatever differs between two answers was changed in
    /// between.
    pub(crate) state: &'static str,
    /// The same in one short text, for a table `state`.
    pub(crate) digest: &'static str,
    /// The id of the session.
    pub(crate) id: &'static str,
    /// The code of "not inside a transaction".
    pub(crate) not_in_transaction: &'static str,
}

/// A session in which one statement after the other is tried.
#[derive(Debug)]
pub(crate) struct Session {
    url: String,
    setup: String,
    questions: Questions,
    link: Link,
    id: String,
    state: State,
    /// Statements that were refused may have left something.
    is_sure: bool,
}

/// The answers outside of transactions.
#[derive(Debug)]
struct State {
    facts: Vec<String>,
    digest: String,
}

/// The outcome of a statement.
#[derive(Debug)]
pub(crate) enum Outcome {
    Refused(Refusal),
    /// The traces that the statement left: locks, a transaction id, changed state.
    Ran(Vec<String>),
}

impl Session {
    /// Opens a session; `setup` are further settings, in SQL.
    pub(crate) async fn open(url: &str, setup: &str, questions: Questions) -> Result<Self> {
        let mut link = Link::open(url).await?;
        let (id, digest) = prepare(&mut link, setup, questions).await?;
        let state = State { facts: link.texts(questions.state).await?, digest };
        Ok(Self { url: url.to_owned(), setup: setup.to_owned(), questions, link, id, state, is_sure: true })
    }

    /// Tries a statement in a transaction of its own, which is committed.
    pub(crate) async fn attempt(&mut self, sql: &str) -> Result<Outcome> {
        let was_sure = self.is_sure;
        let outcome = self.attempt_once(sql).await?;
        match outcome {
            // A change is left: of this statement, or of an earlier one that was refused?
            Outcome::Ran(left) if !left.is_empty() && !was_sure => {
                self.reopen().await?;
                self.attempt_once(sql).await
            }
            outcome => Ok(outcome),
        }
    }

    async fn attempt_once(&mut self, sql: &str) -> Result<Outcome> {
        self.link.must("BEGIN").await?;
        let ran = match self.link.run(sql).await {
            Err(refusal) if refusal.code == self.questions.not_in_transaction => {
                self.link.must("ROLLBACK").await?;
                self.link.run(sql).await
            }
            ran => ran,
        };
        if let Err(refusal) = ran {
            self.is_sure = false;
            // After a COPY that was refused sqlx takes the end of that answer for the next one.
            match refusal.code.is_empty() || is_copy(sql) {
                true => self.reopen().await?,
                false => self.link.must("ROLLBACK").await?,
            }
            return Ok(Outcome::Refused(refusal));
        }
        let mut left = Vec::new();
        for question in self.questions.held {
            let answers = self.link.texts(question).await?;
            left.extend(answers.iter().filter_map(|answer| (self.questions.meaning)(answer, &self.id)));
        }
        self.link.must("COMMIT").await?;
        let digest = digest(&mut self.link, self.questions).await?;
        if digest != self.state.digest {
            let facts = self.link.texts(self.questions.state).await?;
            left.extend(changes(&self.state.facts, &facts));
            self.reopen().await?;
        }
        Ok(Outcome::Ran(left))
    }

    async fn reopen(&mut self) -> Result<()> {
        self.link = Link::open(&self.url).await?;
        let (id, digest) = prepare(&mut self.link, &self.setup, self.questions).await?;
        // The facts are many, and most often the same again.
        if digest != self.state.digest {
            self.state = State { facts: self.link.texts(self.questions.state).await?, digest };
        }
        self.id = id;
        self.is_sure = true;
        Ok(())
    }
}

/// The id of the new session and the digest of its state.
async fn prepare(link: &mut Link, setup: &str, questions: Questions) -> Result<(String, String)> {
    for sql in [questions.settings, setup] {
        link.must(sql).await?;
    }
    let id = link.texts(questions.id).await?.concat();
    Ok((id, digest(link, questions).await?))
}

async fn digest(link: &mut Link, questions: Questions) -> Result<String> {
    let sql = format!("{} ({}) AS state", questions.digest, questions.state);
    Ok(link.texts(&sql).await?.concat())
}

fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let missing = before.iter().filter(|fact| !after.contains(fact)).map(|fact| format!("no longer {fact}"));
    let new = after.iter().filter(|fact| !before.contains(fact)).map(|fact| format!("now {fact}"));
    missing.chain(new).collect()
}
