//! What can go wrong, in words for whoever wrote the program or the SET.

use std::fmt;

/// Why nothing was changed. Displays as what was wrong, where, and what is still in force.
#[derive(Debug)]
pub struct Error {
    problem: Box<Problem>,
    in_force: Option<String>,
}

/// What was wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("not built yet")]
    Unfinished,
}

impl Error {
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error { problem: Box::new(problem), in_force: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        match &self.in_force {
            Some(names) => write!(f, "\nNothing was changed; attached as before: {names}."),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.problem)
    }
}
