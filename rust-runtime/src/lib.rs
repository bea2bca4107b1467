//! See this folder's README.
