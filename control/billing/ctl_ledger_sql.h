/*
 * Between the files of the ledger: the connection, its statements, transactions. Only ctl_ledger*.c. All but lock and unlock want the lock.
 */
#ifndef TURNPIKE_CTL_LEDGER_SQL_H
#define TURNPIKE_CTL_LEDGER_SQL_H

#include "ctl_ledger.h"

#include <sqlite3.h>

/* One row per statement in ctl_ledger_sql.c; prepared once, at the first use. */
enum ledger_sql {
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_VERSION,
	SQL_SEGMENT_PUT,
	SQL_SEGMENT_LAST,
	SQL_TOUCH_PUT,
	SQL_TOUCH_LAST,
	SQL_RECOUNT_PUT,
	SQL_RECOUNT_LIST,
	SQL_DIFFERENCE_PUT,
	SQL_DIFFERENCE_LIST,
	SQL_DIFFERENCE_COUNT,
	SQL_DIFFERENCE_COUNT_OF,
	SQL_SEGMENT_LIST,
	SQL_SEGMENT_GET,
	SQL_SCHEDULE_PUT,
	SQL_SCHEDULE_GET,
	SQL_SCHEDULE_LAST,
	SQL_REPORT_PUT,
	SQL_REPORT_REVISE,
	SQL_REPORT_GET,
	SQL_REPORT_AT,
	SQL_ISSUE_PUT,
	SQL_ISSUE_LIST,
	SQL_ISSUE_SEGMENTS,
	SQL_LINE_PUT,
	SQL_LINE_LIST,
	LEDGER_SQLS
};

void ledger_lock(struct ctl_ledger *ledger);
void ledger_unlock(struct ctl_ledger *ledger);

/* A statement, reset and without values; NULL: it cannot be prepared. */
sqlite3_stmt *ledger_statement(struct ctl_ledger *ledger, enum ledger_sql which);
/* Values, in their order from 1; counts are kept as the signed number with the same bits. */
void ledger_bind_u64(sqlite3_stmt *statement, int at, uint64_t value);
void ledger_bind_bytes(sqlite3_stmt *statement, int at, const void *bytes, size_t count);
void ledger_bind_text(sqlite3_stmt *statement, int at, const char *text);
void ledger_bind_micros(sqlite3_stmt *statement, int at, __int128 micros); /* as text, "-12.000001": money is never a float */
uint64_t ledger_column_u64(sqlite3_stmt *statement, int at);
/* "-12.000001", as tp_micros_text() writes it: always six decimals. */
__int128 ledger_micros(const char *text, size_t bytes);
__int128 ledger_column_micros(sqlite3_stmt *statement, int at);
/* Copies at most `room` bytes; those that lack are zeros. */
void ledger_column_copy(sqlite3_stmt *statement, int at, void *to, size_t room);
/* Five columns from `at`: impressions, clicks, flagged clicks, conversions, spend. */
void ledger_bind_figures(sqlite3_stmt *statement, int at, const struct ctl_ledger_figures *figures);
void ledger_column_figures(sqlite3_stmt *statement, int at, struct ctl_ledger_figures *figures);

/* Runs a statement that gives no rows. 0 or -errno, logged. */
int ledger_run(struct ctl_ledger *ledger, sqlite3_stmt *statement);
/* The next row: 1, 0: no more, or -errno, logged. */
int ledger_next(struct ctl_ledger *ledger, sqlite3_stmt *statement);
int ledger_begin(struct ctl_ledger *ledger);
/* Commits, or with rc != 0 takes all back; returns rc, or why it could not be committed. */
int ledger_end(struct ctl_ledger *ledger, int rc);

#endif
