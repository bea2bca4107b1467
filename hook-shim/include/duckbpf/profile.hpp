//! What the patched units call for DuckDB's profiles (profile.cpp): what programs cost a query.
#pragma once

namespace duckdb {
class ClientContext;
}

namespace duckbpf {

//! The query's plan is about to run: while DuckDB profiles it, and a program is attached, calls of programs for it are timed
void BeginProfile(duckdb::ClientContext &context);
//! Its profile is about to be closed
void TellProfile(duckdb::ClientContext &context);

} // namespace duckbpf
