/* A C program with a hooked DuckDB in it: engine <database> <extension> <programs> <query>. Shows the first value of the result,
 * and what the hooks did. With two arguments, <database> <query>, it leaves the hooks alone.
 *
 *   export PKG_CONFIG_PATH=target/engine/hooked/lib/pkgconfig
 *   cc examples/engine.c $(pkg-config --cflags --libs duckdb) -o engine
 *   ./engine my.duckdb target/extension/duckbpf.duckdb_extension target/bpf/default_hash.bpf.o 'SELECT count(*) FROM t'
 */
#include <duckdb.h>
#include <stdio.h>

static int run(duckdb_connection connection, const char *format, const char *argument)
{
	char sql[4096], *text;
	duckdb_result result;
	snprintf(sql, sizeof(sql), format, argument);
	int failed = duckdb_query(connection, sql, &result) != DuckDBSuccess;
	if (failed)
		fprintf(stderr, "%s\n", duckdb_result_error(&result));
	else if (duckdb_column_count(&result) && (text = duckdb_value_varchar(&result, 0, 0)))
		printf("%s\n", text), duckdb_free(text);
	fflush(stdout);
	duckdb_destroy_result(&result);
	return failed;
}

int main(int count, char **arguments)
{
	duckdb_database database;
	duckdb_connection connection;
	duckdb_config config;
	if (count != 3 && count != 5)
		return fprintf(stderr, "usage: %s database [extension programs] query\n", arguments[0]), 2;
	duckdb_create_config(&config);
	duckdb_set_config(config, "allow_unsigned_extensions", "true");
	if (duckdb_open_ext(arguments[1], &database, config, NULL) || duckdb_connect(database, &connection))
		return fprintf(stderr, "cannot open %s\n", arguments[1]), 1;
	int failed = count == 5 && (run(connection, "LOAD '%s'", arguments[2]) ||
	                            run(connection, "SET hook_program = '%s'", arguments[3]));
	failed = failed || run(connection, "%s", arguments[count - 1]);
	if (!failed && count == 5)
		failed = run(connection, "SELECT string_agg(name || ': ' || calls, ', ') FROM hook_programs()", "");
	duckdb_disconnect(&connection);
	duckdb_close(&database);
	duckdb_destroy_config(&config);
	return failed;
}
