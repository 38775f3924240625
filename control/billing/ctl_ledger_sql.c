/*
 * The ledger's file: schema, connection, statements. See ctl_ledger.h and ctl_ledger_sql.h.
 *
 * The schema's number is PRAGMA user_version. A later one is refused, never guessed; an earlier one is brought up in one transaction.
 * Write-ahead logging with synchronous=FULL: a transaction is on stable storage when it is committed, and readers of another process
 * (turnpikectl) do not wait for a writer. Source: sqlite.org/wal.html, sqlite.org/pragma.html.
 */
#include "ctl_ledger_sql.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
	SCHEMA = 2,
	APPLICATION_ID = 0x54504c31 /* "TPL1": file(1) and we know it by that */,
	BUSY_MS = 5000,
	BUSY_STEP_MS = 5,
	MICROS_BYTES = 64,
	PATH_BYTES = 4096
};

/* Step n makes schema n + 1 of schema n: never changed once it was out, only added to. */
static const char *const schema_step[] = {
	/* 1: segments and the reconciliation */
	"CREATE TABLE segment(sequence INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, from_minute INTEGER NOT NULL, to_minute INTEGER "
	"NOT NULL);"
	"CREATE INDEX segment_to ON segment(to_minute);"
	"CREATE TABLE touch(hour INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);"
	"CREATE TABLE recount(id INTEGER PRIMARY KEY AUTOINCREMENT, from_minute INTEGER NOT NULL, to_minute INTEGER NOT NULL,"
	" at_ms INTEGER NOT NULL, sequence INTEGER NOT NULL, segments INTEGER NOT NULL, chain_sha256 BLOB NOT NULL, events INTEGER "
	"NOT NULL,"
	" differences INTEGER NOT NULL, kept INTEGER NOT NULL);"
	"CREATE INDEX recount_to ON recount(to_minute);"
	"CREATE TABLE difference(recount INTEGER NOT NULL REFERENCES recount(id), minute INTEGER NOT NULL, campaign BLOB NOT NULL,"
	" currency TEXT NOT NULL, raw_impressions INTEGER NOT NULL, raw_clicks INTEGER NOT NULL, raw_flagged_clicks INTEGER NOT "
	"NULL,"
	" raw_conversions INTEGER NOT NULL, raw_spend TEXT NOT NULL, impressions INTEGER NOT NULL, clicks INTEGER NOT NULL,"
	" flagged_clicks INTEGER NOT NULL, conversions INTEGER NOT NULL, spend TEXT NOT NULL,"
	" PRIMARY KEY(recount, minute, campaign, currency)) WITHOUT ROWID;",
	/* 2: bills */
	"CREATE TABLE schedule(period INTEGER NOT NULL, zone TEXT NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,"
	" PRIMARY KEY(period, zone)) WITHOUT ROWID;"
	"CREATE TABLE report(id TEXT PRIMARY KEY, advertiser BLOB NOT NULL, period INTEGER NOT NULL, zone TEXT NOT NULL,"
	" start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, revision INTEGER NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX report_at ON report(advertiser, end_ms);"
	"CREATE TABLE issue(report TEXT NOT NULL REFERENCES report(id), revision INTEGER NOT NULL, issued_ms INTEGER NOT NULL,"
	" sequence INTEGER NOT NULL, segments BLOB NOT NULL, PRIMARY KEY(report, revision)) WITHOUT ROWID;"
	"CREATE TABLE line(report TEXT NOT NULL REFERENCES report(id), revision INTEGER NOT NULL, campaign BLOB NOT NULL,"
	" impressions INTEGER NOT NULL, clicks INTEGER NOT NULL, flagged_clicks INTEGER NOT NULL, conversions INTEGER NOT NULL,"
	" late INTEGER NOT NULL, spend TEXT NOT NULL, PRIMARY KEY(report, revision, campaign)) WITHOUT ROWID;",
};

static const char *const sql_text[LEDGER_SQLS] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_VERSION] = "PRAGMA data_version",
	[SQL_SEGMENT_PUT] = "INSERT OR IGNORE INTO segment VALUES(?, ?, ?, ?)",
	[SQL_SEGMENT_LAST] = "SELECT coalesce(max(sequence), 0) FROM segment",
	[SQL_TOUCH_PUT] =
		"INSERT INTO touch VALUES(?, ?) ON CONFLICT(hour) DO UPDATE SET sequence = max(sequence, excluded.sequence)",
	[SQL_TOUCH_LAST] = "SELECT coalesce(max(sequence), 0) FROM touch WHERE hour BETWEEN ? AND ?",
	[SQL_RECOUNT_PUT] = "INSERT INTO recount VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_RECOUNT_LIST] = "SELECT id, from_minute, to_minute, at_ms, sequence, segments, chain_sha256, events, differences, kept"
			     " FROM recount WHERE to_minute > ? AND from_minute < ? ORDER BY id DESC LIMIT ?",
	[SQL_DIFFERENCE_PUT] = "INSERT OR REPLACE INTO difference VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_DIFFERENCE_LIST] =
		"SELECT minute, campaign, currency, raw_impressions, raw_clicks, raw_flagged_clicks, raw_conversions,"
		" raw_spend, impressions, clicks, flagged_clicks, conversions, spend FROM difference WHERE recount = ?"
		" ORDER BY minute, campaign, currency",
	[SQL_DIFFERENCE_COUNT] = "SELECT count(*) FROM difference WHERE recount = ? AND minute >= ? AND minute < ?",
	[SQL_DIFFERENCE_COUNT_OF] =
		"SELECT count(*) FROM difference WHERE recount = ? AND minute >= ? AND minute < ? AND campaign = ?",
	[SQL_SEGMENT_LIST] = "SELECT sequence, sha256 FROM segment WHERE to_minute > ? AND from_minute < ? AND sequence <= ?"
			     " ORDER BY sequence",
	[SQL_SEGMENT_GET] = "SELECT sequence, sha256 FROM segment WHERE sequence = ?",
	[SQL_SCHEDULE_PUT] = "INSERT OR REPLACE INTO schedule VALUES(?, ?, ?, ?)",
	[SQL_SCHEDULE_GET] = "SELECT from_ms, until_ms FROM schedule WHERE period = ? AND zone = ?",
	[SQL_SCHEDULE_LAST] = "SELECT 0, coalesce(max(until_ms), 0) FROM schedule",
	[SQL_REPORT_PUT] = "INSERT OR IGNORE INTO report VALUES(?, ?, ?, ?, ?, ?, 1, ?)",
	[SQL_REPORT_REVISE] = "UPDATE report SET revision = ?, sequence = ? WHERE id = ?",
	[SQL_REPORT_GET] = "SELECT id, advertiser, period, zone, start_ms, end_ms, revision, sequence FROM report WHERE id = ?",
	[SQL_REPORT_AT] = "SELECT id, advertiser, period, zone, start_ms, end_ms, revision, sequence FROM report"
			  " WHERE advertiser = ?1 AND end_ms > ?2 AND start_ms <= ?2 LIMIT ?3",
	[SQL_ISSUE_PUT] = "INSERT INTO issue VALUES(?, ?, ?, ?, ?)",
	[SQL_ISSUE_LIST] = "SELECT revision, issued_ms, sequence FROM issue WHERE report = ? ORDER BY revision",
	[SQL_ISSUE_SEGMENTS] = "SELECT segments FROM issue WHERE report = ? AND revision = ?",
	[SQL_LINE_PUT] = "INSERT INTO line VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_LINE_LIST] = "SELECT revision, campaign, impressions, clicks, flagged_clicks, conversions, late, spend FROM line"
			  " WHERE report = ? ORDER BY revision, campaign",
};

struct ctl_ledger {
	sqlite3 *db;
	pthread_mutex_t lock; /* over the connection and its statements */
	sqlite3_stmt *statement[LEDGER_SQLS];
	bool gone; /* as of the last look; for the log */
	/* set when it is opened, and not changed */
	struct ledger_file {
		char path[PATH_BYTES];
		dev_t device;
		ino_t inode;
	} file, log; /* ledger.db, and its write-ahead log, which has what was not copied there yet */
};

void ledger_lock(struct ctl_ledger *ledger)
{
	pthread_mutex_lock(&ledger->lock);
}

void ledger_unlock(struct ctl_ledger *ledger)
{
	pthread_mutex_unlock(&ledger->lock);
}

/* ---- errors ---- */

static int errno_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EAGAIN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

static int said(const struct ctl_ledger *ledger, const char *what)
{
	int rc = errno_of(ledger->db ? sqlite3_extended_errcode(ledger->db) : SQLITE_NOMEM);
	tp_logf(TP_ERROR, "the ledger failed", "path=\"%s\" at=\"%s\" error=\"%s\"", ledger->file.path, what,
		ledger->db ? sqlite3_errmsg(ledger->db) : "no memory");
	return rc ? rc : -EIO;
}

/* ---- whether it is still there ---- */

static bool file_same(const struct ledger_file *file)
{
	struct stat now;

	return stat(file->path, &now) == 0 && now.st_dev == file->device && now.st_ino == file->inode;
}

static int file_remember(struct ledger_file *file)
{
	struct stat now;

	if (stat(file->path, &now) != 0)
		return -errno;
	file->device = now.st_dev;
	file->inode = now.st_ino;
	return 0;
}

bool ctl_ledger_there(const struct ctl_ledger *ledger)
{
	return ledger && file_same(&ledger->file) && file_same(&ledger->log);
}

/* With the lock. Says it once, and once more when it is back. */
static bool look(struct ctl_ledger *ledger)
{
	bool gone = ledger->file.inode && !ctl_ledger_there(ledger);

	if (gone && !ledger->gone)
		tp_logf(TP_ERROR,
			"the ledger was deleted, moved or replaced: no bill is issued or shown until it is back, or this process "
			"is "
			"started again",
			"path=\"%s\"", ledger->file.path);
	if (!gone && ledger->gone)
		tp_logf(TP_INFO, "the ledger is back", "path=\"%s\"", ledger->file.path);
	ledger->gone = gone;
	return !gone;
}

/* ---- statements ---- */

sqlite3_stmt *ledger_statement(struct ctl_ledger *ledger, enum ledger_sql which)
{
	sqlite3_stmt **statement = &ledger->statement[which];

	/* what is read outside of a transaction, its beginning, and before its end becomes a promise */
	if ((which == SQL_COMMIT || (which != SQL_ROLLBACK && sqlite3_get_autocommit(ledger->db))) && !look(ledger))
		return NULL;
	if (*statement) {
		sqlite3_reset(*statement);
		sqlite3_clear_bindings(*statement);
	} else if (sqlite3_prepare_v3(ledger->db, sql_text[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK) {
		said(ledger, sql_text[which]);
		*statement = NULL;
	}
	return *statement;
}

/* A value that could not be bound (no memory) is NULL then, which the columns refuse: the statement fails, nothing wrong is stored. */
void ledger_bind_u64(sqlite3_stmt *statement, int at, uint64_t value)
{
	sqlite3_bind_int64(statement, at, (sqlite3_int64)value);
}

void ledger_bind_bytes(sqlite3_stmt *statement, int at, const void *bytes, size_t count)
{
	/* a null pointer would be NULL, not an empty string */
	sqlite3_bind_blob64(statement, at, count ? bytes : "", count, SQLITE_TRANSIENT);
}

void ledger_bind_text(sqlite3_stmt *statement, int at, const char *text)
{
	sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
}

void ledger_bind_micros(sqlite3_stmt *statement, int at, __int128 micros)
{
	char text[MICROS_BYTES];

	tp_micros_text(micros, text);
	ledger_bind_text(statement, at, text);
}

uint64_t ledger_column_u64(sqlite3_stmt *statement, int at)
{
	return (uint64_t)sqlite3_column_int64(statement, at);
}

__int128 ledger_micros(const char *text, size_t bytes)
{
	unsigned __int128 micros = 0;
	bool negative = bytes > 0 && *text == '-';

	/* six decimals, so the digits are the micros */
	for (size_t i = 0; i < bytes; i++)
		if (text[i] >= '0' && text[i] <= '9')
			micros = micros * 10 + (unsigned)(text[i] - '0');
	return (__int128)(negative ? -micros : micros);
}

__int128 ledger_column_micros(sqlite3_stmt *statement, int at)
{
	const char *text = (const char *)sqlite3_column_text(statement, at);
	return text ? ledger_micros(text, strlen(text)) : 0;
}

void ledger_column_copy(sqlite3_stmt *statement, int at, void *to, size_t room)
{
	const void *bytes = sqlite3_column_blob(statement, at);
	size_t count = (size_t)sqlite3_column_bytes(statement, at);

	memset(to, 0, room);
	if (bytes)
		memcpy(to, bytes, count < room ? count : room);
}

void ledger_bind_figures(sqlite3_stmt *statement, int at, const struct ctl_ledger_figures *figures)
{
	ledger_bind_u64(statement, at, figures->impressions);
	ledger_bind_u64(statement, at + 1, figures->clicks);
	ledger_bind_u64(statement, at + 2, figures->flagged_clicks);
	ledger_bind_u64(statement, at + 3, figures->conversions);
	ledger_bind_micros(statement, at + 4, figures->spend_micros);
}

void ledger_column_figures(sqlite3_stmt *statement, int at, struct ctl_ledger_figures *figures)
{
	figures->impressions = ledger_column_u64(statement, at);
	figures->clicks = ledger_column_u64(statement, at + 1);
	figures->flagged_clicks = ledger_column_u64(statement, at + 2);
	figures->conversions = ledger_column_u64(statement, at + 3);
	figures->spend_micros = ledger_column_micros(statement, at + 4);
}

int ledger_next(struct ctl_ledger *ledger, sqlite3_stmt *statement)
{
	if (!statement)
		return ledger->gone ? -EIDRM : -EIO;
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		return 1;
	int rc = code == SQLITE_DONE ? 0 : said(ledger, sqlite3_sql(statement));
	sqlite3_reset(statement);
	return rc;
}

int ledger_run(struct ctl_ledger *ledger, sqlite3_stmt *statement)
{
	int rc = ledger_next(ledger, statement);
	if (rc > 0)
		sqlite3_reset(statement);
	return rc < 0 ? rc : 0;
}

int ledger_begin(struct ctl_ledger *ledger)
{
	return ledger_run(ledger, ledger_statement(ledger, SQL_BEGIN));
}

int ledger_end(struct ctl_ledger *ledger, int rc)
{
	if (rc == 0)
		rc = ledger_run(ledger, ledger_statement(ledger, SQL_COMMIT));
	/* a failed commit leaves the transaction open, unless SQLite has taken it back itself */
	if (rc != 0 && !sqlite3_get_autocommit(ledger->db))
		(void)ledger_run(ledger, ledger_statement(ledger, SQL_ROLLBACK));
	return rc;
}

/* ---- the file ---- */

static int execute(struct ctl_ledger *ledger, const char *sql)
{
	return sqlite3_exec(ledger->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : said(ledger, sql);
}

static int number(struct ctl_ledger *ledger, const char *sql, int64_t *value)
{
	sqlite3_stmt *statement = NULL;

	if (sqlite3_prepare_v2(ledger->db, sql, -1, &statement, NULL) != SQLITE_OK || sqlite3_step(statement) != SQLITE_ROW) {
		int rc = said(ledger, sql);
		sqlite3_finalize(statement);
		return rc;
	}
	*value = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return 0;
}

static int schema_bring_up(struct ctl_ledger *ledger)
{
	char numbers[128];
	int64_t version;

	int rc = ledger_begin(ledger);
	if (rc != 0)
		return rc;
	/* somebody else may have done it since it was looked at */
	rc = number(ledger, "PRAGMA user_version", &version);
	for (int64_t at = version; rc == 0 && at < SCHEMA; at++)
		rc = execute(ledger, schema_step[at]);
	snprintf(numbers, sizeof(numbers), "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, SCHEMA);
	if (rc == 0)
		rc = execute(ledger, numbers);
	return ledger_end(ledger, rc);
}

static int schema_check(struct ctl_ledger *ledger)
{
	int64_t version, application;

	int rc = number(ledger, "PRAGMA user_version", &version);
	if (rc == 0)
		rc = number(ledger, "PRAGMA application_id", &application);
	if (rc != 0)
		return rc;
	if (application != APPLICATION_ID && (version != 0 || application != 0)) {
		tp_logf(TP_ERROR, "not a ledger: move the file away", "path=\"%s\"", ledger->file.path);
		return -EBADMSG;
	}
	if (version > SCHEMA) {
		tp_logf(TP_ERROR, "the ledger is of a later program", "path=\"%s\" found=%lld expected=%d", ledger->file.path,
			(long long)version, SCHEMA);
		return -EPROTONOSUPPORT;
	}
	return version < SCHEMA ? schema_bring_up(ledger) : 0;
}

/* Of a new file, which another process makes a write-ahead one at this moment, SQLite says that it is busy without any waiting. */
static int settings_make(struct ctl_ledger *ledger)
{
	static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
				       "PRAGMA journal_size_limit = 16777216";
	const struct timespec while_ns = {.tv_nsec = BUSY_STEP_MS * 1000000};
	int code = SQLITE_BUSY;

	sqlite3_busy_timeout(ledger->db, BUSY_MS);
	sqlite3_extended_result_codes(ledger->db, 1);
	for (int ms = 0; (code & 0xff) == SQLITE_BUSY && ms < BUSY_MS; ms += BUSY_STEP_MS) {
		if (ms)
			nanosleep(&while_ns, NULL);
		code = sqlite3_exec(ledger->db, settings, NULL, NULL, NULL);
	}
	return code == SQLITE_OK ? 0 : said(ledger, settings);
}

int ctl_ledger_open(struct ctl_ledger **out, const char *state_dir)
{
	struct ctl_ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return -ENOMEM;
	pthread_mutex_init(&ledger->lock, NULL);
	int length = snprintf(ledger->log.path, PATH_BYTES, "%s/ledger.db-wal", state_dir);
	int rc = length < 0 || length >= PATH_BYTES ? -ENAMETOOLONG : 0;
	snprintf(ledger->file.path, PATH_BYTES, "%.4080s/ledger.db", state_dir);
	/* NOMUTEX: our own lock is enough */
	if (rc == 0 && sqlite3_open_v2(ledger->file.path, &ledger->db,
				       SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
				       NULL) != SQLITE_OK)
		rc = said(ledger, "open");
	if (rc == 0)
		rc = settings_make(ledger);
	if (rc == 0)
		rc = schema_check(ledger);
	/* the log is there from the first statement on, for as long as a connection is open */
	if (rc == 0)
		rc = file_remember(&ledger->log);
	if (rc == 0)
		rc = file_remember(&ledger->file);
	if (rc != 0) {
		ctl_ledger_close(ledger);
		return rc;
	}
	*out = ledger;
	return 0;
}

void ctl_ledger_close(struct ctl_ledger *ledger)
{
	if (!ledger)
		return;
	for (int i = 0; i < LEDGER_SQLS; i++)
		sqlite3_finalize(ledger->statement[i]);
	sqlite3_close(ledger->db);
	pthread_mutex_destroy(&ledger->lock);
	free(ledger);
}
