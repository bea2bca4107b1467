/* A C program with a hooked DuckDB in it: runs statements, and shows the first value of what each gives.
 *
 *   export PKG_CONFIG_PATH=target/engine/hooked/lib/pkgconfig
 *   cc examples/engine.c $(pkg-config --cflags --libs duckdb) -o engine
 *   ./engine my.duckdb "LOAD 'target/extension/duckbpf.duckdb_extension'" "SET hook_program = 'target/bpf/default_hash.bpf.o'" \
 *       'SELECT count(*) FROM t' "SELECT string_agg(name || ': ' || calls, ', ') FROM hook_programs()"
 */
#include <duckdb.h>
#include <stdio.h>

int main(int count, char **arguments)
{
	duckdb_config config;
	duckdb_database database;
	duckdb_connection connection;
	int failed = 0;
	duckdb_create_config(&config);
	duckdb_set_config(config, "allow_unsigned_extensions", "true");
	if (count < 2 || duckdb_open_ext(arguments[1], &database, config, NULL) || duckdb_connect(database, &connection))
		return fprintf(stderr, "usage: %s database statement ...; the database must open\n", arguments[0]), 2;
	for (int at = 2; at < count && !failed; at++) {
		duckdb_result result;
		failed = duckdb_query(connection, arguments[at], &result) != DuckDBSuccess;
		char *value = failed ? NULL : duckdb_value_varchar(&result, 0, 0);
		if (failed)
			fprintf(stderr, "%s\n", duckdb_result_error(&result));
		if (value)
			printf("%s\n", value), fflush(stdout);
		duckdb_free(value);
		duckdb_destroy_result(&result);
	}
	duckdb_disconnect(&connection);
	duckdb_close(&database);
	duckdb_destroy_config(&config);
	return failed;
}
