/* A queue as programs keep it in SQLite: put, taken in order and deleted, in transactions of BATCH, with a write-ahead log that is synced at each commit:
 * library_sqlite FILE COUNT BATCH */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static sqlite3 *database;

static double clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void say(const char *sql)
{
    char *error = NULL;
    if (sqlite3_exec(database, sql, NULL, NULL, &error) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, error);
        exit(1);
    }
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK)
        exit(1);
    return statement;
}

int main(int argc, char **argv)
{
    long count = argc > 3 ? atol(argv[2]) : 0, batch = argc > 3 ? atol(argv[3]) : 1;
    if (argc < 4 || sqlite3_open(argv[1], &database) != SQLITE_OK)
        return 1;
    say("PRAGMA journal_mode = WAL");
    say("PRAGMA synchronous = FULL");
    say("CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT, data BLOB)");
    sqlite3_stmt *put = prepare("INSERT INTO queue (type, data) VALUES ('order.created', ?)");
    sqlite3_stmt *take = prepare("SELECT id, data FROM queue ORDER BY id LIMIT ?"), *done = prepare("DELETE FROM queue WHERE id = ?");
    double begin = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    long handled = 0;
    for (long sent = 0; sent < count;) {
        say("BEGIN");
        for (long i = 0; i < batch && sent < count; i++, sent++) {
            sqlite3_bind_blob(put, 1, "0123456789abcdef", 16, SQLITE_STATIC);
            if (sqlite3_step(put) != SQLITE_DONE)
                return 1;
            sqlite3_reset(put);
        }
        say("COMMIT");
        say("BEGIN");
        sqlite3_bind_int64(take, 1, batch);
        while (sqlite3_step(take) == SQLITE_ROW) {
            sqlite3_bind_int64(done, 1, sqlite3_column_int64(take, 0));
            if (sqlite3_step(done) != SQLITE_DONE)
                return 1;
            sqlite3_reset(done);
            handled++;
        }
        sqlite3_reset(take);
        say("COMMIT");
    }
    printf("{\"what\": \"sqlite\", \"count\": %ld, \"seconds\": %.6f, \"cpu\": %.6f}\n", handled, clock_of(CLOCK_MONOTONIC) - begin, clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return handled == count ? 0 : 1;
}
