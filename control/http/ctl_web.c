/*
 * The dashboard's files. The page may load nothing but these and talk to nobody but us: its policy forbids all else, inline scripts
 * and styles too, so that a campaign's name can never become code. Connection threads.
 */
#include "ctl_web.h"

#include "ctl.h"

#include <string.h>

static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
			     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static bool serve(const char *name, size_t bytes, struct ctl_reply *reply)
{
	for (unsigned i = 0; i < ctl_assets; i++) {
		const struct ctl_asset *asset = &ctl_asset[i];
		if (strlen(asset->name) != bytes || memcmp(asset->name, name, bytes) != 0)
			continue;
		reply->status = 200;
		reply->type = asset->type;
		reply->etag = asset->etag;
		reply->cache = "no-cache"; /* ask each time: a new version shows at once */
		reply->policy = policy;
		reply->fixed = asset->bytes;
		reply->body_bytes = asset->count;
		return true;
	}
	return false;
}

void ctl_web(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	const struct ctl_text *name = &target->segment[0];

	(void)ctl;
	if (name->bytes == 0 ? serve("index.html", strlen("index.html"), reply) : serve(name->at, name->bytes, reply))
		return;
	ctl_reply_problem(reply, 404, "not-found", NULL, "there is nothing here; /openapi.json names what there is");
}
