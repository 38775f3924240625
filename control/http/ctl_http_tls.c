/*
 * TLS of the control process: its certificate, and those of clients. GnuTLS through libmicrohttpd; TLS 1.2 and 1.3.
 *
 * A handshake takes the certificate that is in force when it begins; ctl_tls_reload() puts another in force, and what was read first is
 * freed when the last handshake that began with it has ended. Clients' certificates are verified in the handshake, against control.tls.client_ca
 * alone: without a good one a client sees no HTTP at all. Source: RFC 8446 section 4.4.2, GnuTLS manual, sections 6.2 and 7.8.
 */
#include "ctl_http.h"
#include "turnpike/log.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHAIN_MAX = 16, OPTIONS = 4 };

static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

/* What was read from the files at one time. Counted: one reference is the tls's own. */
struct pair {
	uint32_t held; /* under tls.lock */
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned chain_count;
	gnutls_privkey_t key;
	gnutls_x509_trust_list_t clients; /* NULL: none are asked for */
};

struct ctl_tls {
	const struct tp_config *config;
	pthread_mutex_t lock;
	struct pair *pair;
	char *client_ca; /* PEM, as read first: only a hint to clients */
	struct MHD_OptionItem option[OPTIONS + 1];
};

/* The library's callbacks carry no context; there is one server in the process. */
static struct ctl_tls *in_force;

static void pair_free(struct pair *pair)
{
	for (unsigned i = 0; i < pair->chain_count; i++)
		gnutls_pcert_deinit(&pair->chain[i]);
	if (pair->key)
		gnutls_privkey_deinit(pair->key);
	if (pair->clients)
		gnutls_x509_trust_list_deinit(pair->clients, 1);
	free(pair);
}

static struct pair *pair_take(struct ctl_tls *tls)
{
	pthread_mutex_lock(&tls->lock);
	struct pair *pair = tls->pair;
	pair->held++;
	pthread_mutex_unlock(&tls->lock);
	return pair;
}

static void pair_give(struct ctl_tls *tls, struct pair *pair)
{
	pthread_mutex_lock(&tls->lock);
	bool last = --pair->held == 0;
	pthread_mutex_unlock(&tls->lock);
	if (last)
		pair_free(pair);
}

/* ---- files ---- */

static int said(const char *key, const char *path, const char *what)
{
	tp_logf(TP_ERROR, "TLS: cannot use a file", "key=%s path=\"%s\" error=\"%s\"", key, path, what);
	return -EINVAL;
}

/* The key and the certificate belong together. */
static bool is_pair(gnutls_privkey_t key, const gnutls_pcert_st *leaf)
{
	unsigned char of_key[64], of_leaf[64];
	size_t key_bytes = sizeof(of_key), leaf_bytes = sizeof(of_leaf);
	gnutls_pubkey_t public;

	if (gnutls_pubkey_init(&public) != 0)
		return false;
	bool same = gnutls_pubkey_import_privkey(public, key, 0, 0) == 0 &&
		    gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &key_bytes) == 0 &&
		    gnutls_pubkey_get_key_id(leaf->pubkey, GNUTLS_KEYID_USE_SHA256, of_leaf, &leaf_bytes) == 0 &&
		    key_bytes == leaf_bytes && memcmp(of_key, of_leaf, key_bytes) == 0;
	gnutls_pubkey_deinit(public);
	return same;
}

/* Time alone: an expired certificate serves, for the operator may be on his way, but is told. */
static void expiry_tell(const gnutls_pcert_st *leaf, const char *path)
{
	gnutls_x509_crt_t certificate;

	if (gnutls_x509_crt_init(&certificate) != 0)
		return;
	if (gnutls_x509_crt_import(certificate, &leaf->cert, GNUTLS_X509_FMT_DER) == 0 &&
	    gnutls_x509_crt_get_expiration_time(certificate) < time(NULL))
		tp_logf(TP_WARN, "TLS: the certificate has expired", "path=\"%s\"", path);
	gnutls_x509_crt_deinit(certificate);
}

static int pair_load(const struct tp_config *config, struct pair *pair, char **client_ca)
{
	gnutls_datum_t data = {0};
	unsigned count = CHAIN_MAX;

	int rc = gnutls_load_file(config->control_tls_certificate, &data);
	if (rc == 0)
		rc = gnutls_pcert_list_import_x509_raw(pair->chain, &count, &data, GNUTLS_X509_FMT_PEM, 0);
	gnutls_free(data.data);
	if (rc < 0)
		return said("control.tls.certificate", config->control_tls_certificate, gnutls_strerror(rc));
	pair->chain_count = count;
	expiry_tell(&pair->chain[0], config->control_tls_certificate);

	data = (gnutls_datum_t){0};
	rc = gnutls_load_file(config->control_tls_key, &data);
	if (rc == 0)
		rc = gnutls_privkey_init(&pair->key);
	if (rc == 0)
		rc = gnutls_privkey_import_x509_raw(pair->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (data.data)
		gnutls_memset(data.data, 0, data.size);
	gnutls_free(data.data);
	if (rc < 0)
		return said("control.tls.key", config->control_tls_key, gnutls_strerror(rc));
	if (!is_pair(pair->key, &pair->chain[0]))
		return said("control.tls.key", config->control_tls_key, "it is not the key of control.tls.certificate");

	if (!config->control_tls_client_ca)
		return 0;
	data = (gnutls_datum_t){0};
	rc = gnutls_load_file(config->control_tls_client_ca, &data);
	if (rc == 0)
		rc = gnutls_x509_trust_list_init(&pair->clients, 0);
	if (rc == 0)
		rc = gnutls_x509_trust_list_add_trust_mem(pair->clients, &data, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
	if (rc > 0)
		*client_ca = strndup((const char *)data.data, data.size);
	gnutls_free(data.data);
	if (rc <= 0)
		return said("control.tls.client_ca", config->control_tls_client_ca,
			    rc ? gnutls_strerror(rc) : "there is no certificate in it");
	return 0;
}

static int pair_read(const struct tp_config *config, struct pair **out, char **client_ca)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	*client_ca = NULL;
	if (!pair)
		return -ENOMEM;
	pair->held = 1;
	int rc = pair_load(config, pair, client_ca);
	if (rc == 0) {
		*out = pair;
		return 0;
	}
	pair_free(pair);
	return rc;
}

/* ---- handshakes: the library's threads ---- */

static void chain_free(gnutls_pcert_st *chain, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		gnutls_pcert_deinit(&chain[i]);
	gnutls_free(chain);
}

/* Copies, which GnuTLS frees after the handshake: so a reload takes nothing away from it. */
static int certificate_give(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **certificates,
			    unsigned *count, gnutls_ocsp_data_st **status, unsigned *status_count, gnutls_privkey_t *key,
			    unsigned *flags)
{
	struct pair *pair = pair_take(in_force);
	gnutls_pcert_st *chain = gnutls_calloc(pair->chain_count, sizeof(*chain));
	unsigned done = 0;
	int rc = chain ? 0 : GNUTLS_E_MEMORY_ERROR;

	(void)session;
	(void)info;
	*status = NULL;
	*status_count = 0;
	*key = NULL;
	for (; rc == 0 && done < pair->chain_count; done += rc == 0)
		rc = gnutls_pcert_import_x509_raw(&chain[done], &pair->chain[done].cert, GNUTLS_X509_FMT_DER, 0);
	if (rc == 0) {
		gnutls_privkey_t copy = NULL;
		gnutls_x509_privkey_t plain = NULL;
		rc = gnutls_privkey_export_x509(pair->key, &plain);
		if (rc == 0)
			rc = gnutls_privkey_init(&copy);
		if (rc == 0)
			rc = gnutls_privkey_import_x509(copy, plain, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
		if (rc == 0)
			plain = NULL;
		else if (copy)
			gnutls_privkey_deinit(copy);
		if (plain)
			gnutls_x509_privkey_deinit(plain);
		*key = rc == 0 ? copy : NULL;
	}
	if (rc != 0 && chain)
		chain_free(chain, done);
	else
		*certificates = chain;
	*count = rc == 0 ? done : 0;
	*flags = GNUTLS_CERT_RETR_DEINIT_ALL;
	pair_give(in_force, pair);
	return rc == 0 ? 0 : -1;
}

/* 0: go on; else the handshake ends. */
static int client_verify(gnutls_session_t session)
{
	unsigned count = 0, verdict = GNUTLS_CERT_INVALID, usable = 0;
	const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t chain[CHAIN_MAX];
	struct pair *pair = pair_take(in_force);

	while (usable < count && usable < CHAIN_MAX) {
		if (gnutls_x509_crt_init(&chain[usable]) != 0)
			break;
		usable++;
		if (gnutls_x509_crt_import(chain[usable - 1], &shown[usable - 1], GNUTLS_X509_FMT_DER) != 0)
			break;
	}
	bool whole = count > 0 && usable == count;
	const char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
	gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)(uintptr_t)purpose, .size = 0};
	if (!pair->clients)
		verdict = 0; /* a reload took the wish away */
	else if (whole && gnutls_x509_trust_list_verify_crt2(pair->clients, chain, count, &data, 1, 0, &verdict, NULL) != 0)
		verdict = GNUTLS_CERT_INVALID;
	for (unsigned i = 0; i < usable; i++)
		gnutls_x509_crt_deinit(chain[i]);
	pair_give(in_force, pair);
	return verdict == 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

void ctl_tls_begin(struct ctl_tls *tls, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	gnutls_session_t session = info ? (gnutls_session_t)info->tls_session : NULL;

	if (!session || !tls->config->control_tls_client_ca)
		return;
	gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_function(session, client_verify);
}

/* ---- life ---- */

int ctl_tls_open(struct ctl_tls **out, const struct tp_config *config)
{
	struct ctl_tls *tls = calloc(1, sizeof(*tls));
	size_t options = 0;

	if (!tls)
		return -ENOMEM;
	tls->config = config;
	pthread_mutex_init(&tls->lock, NULL);
	int rc = pair_read(config, &tls->pair, &tls->client_ca);
	if (rc != 0) {
		ctl_tls_close(tls);
		return rc;
	}
	tls->option[options++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, (void *)(uintptr_t)certificate_give};
	tls->option[options++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)priorities};
	if (tls->client_ca)
		tls->option[options++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, tls->client_ca};
	tls->option[options] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	assert(options <= OPTIONS);
	in_force = tls;
	*out = tls;
	return 0;
}

const struct MHD_OptionItem *ctl_tls_options(struct ctl_tls *tls)
{
	return tls->option;
}

int ctl_tls_reload(struct ctl_tls *tls)
{
	struct pair *fresh, *old;
	char *client_ca;
	int rc = pair_read(tls->config, &fresh, &client_ca);

	if (rc != 0)
		return rc;
	free(client_ca);
	pthread_mutex_lock(&tls->lock);
	old = tls->pair;
	tls->pair = fresh;
	pthread_mutex_unlock(&tls->lock);
	pair_give(tls, old);
	return 0;
}

int ctl_tls_check(const struct tp_config *config)
{
	struct pair *pair;
	char *client_ca;
	int rc = config->control_tls_certificate ? pair_read(config, &pair, &client_ca) : -ENOENT;

	if (rc == -ENOENT)
		return 0;
	if (rc == 0) {
		pair_free(pair);
		free(client_ca);
	}
	return rc;
}

void ctl_tls_close(struct ctl_tls *tls)
{
	if (!tls)
		return;
	in_force = NULL;
	if (tls->pair)
		pair_free(tls->pair);
	pthread_mutex_destroy(&tls->lock);
	free(tls->client_ca);
	free(tls);
}
