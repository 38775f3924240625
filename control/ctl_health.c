/* /healthz: this process lives. /readyz: it has something to answer from, and its ledger. Contract section 7. Connection threads. */
#include "ctl.h"
#include "ctl_ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void ctl_healthz(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	(void)ctl;
	(void)target;
	ctl_reply_json(reply, json_pack("{s:s}", "status", "ok"));
}

void ctl_readyz(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_look look;
	char *path = NULL;

	(void)target;
	ctl_look_take(ctl->views, &look);
	bool live = look.now != NULL, connected = look.connected;
	/* a new data process is looked at while it starts, and answers for itself once it has */
	const char *figures = look.figures == NULL ? "none" : connected && look.figures == look.now ? "current" : "former";
	const char *state =
		live ? tp_refusing_name((enum tp_refusing)atomic_load_explicit(&look.now->refusing, memory_order_relaxed))
		     : "unknown";
	ctl_look_give(ctl->views, &look);
	bool manifest = asprintf(&path, "%s/manifest", ctl->config.data_dir) > 0 && access(path, R_OK) == 0;
	free(path);

	bool ledger = ctl_ledger_there(ctl->ledger);
	bool ready = (live || manifest) && ledger;
	ctl_reply_json(reply, json_pack("{s:b, s:b, s:b, s:b, s:b, s:s, s:s}", "ready", (int)ready, "live_view", (int)live,
					"data_process", (int)connected, "manifest", (int)manifest, "ledger", (int)ledger, "figures",
					figures, "state", state));
	if (reply->status == 200 && !ready)
		reply->status = 503;
}
