/*
 * Questions to the control process. A problem (RFC 9457) becomes a Problem, with words for a person; whoever asked shows it where the
 * answer would have been.
 */

export class Problem extends Error {
	constructor(status, detail, parameter) {
		super(detail);
		this.status = status;
		this.parameter = parameter;
	}

	/* A short title, what it means, and whether trying again makes sense. */
	get title() {
		switch (this.status) {
		case 0: return "No answer";
		case 401: return "Signed out";
		case 403: return "Not yours to see";
		case 404: return "Not here";
		case 422: return "Too much to ask for";
		case 429: return "Asked too often";
		case 503: return "Not now";
		default: return this.status >= 500 ? "It went wrong" : "That cannot be asked";
		}
	}
}

export async function ask(path, query = {}, options = {}) {
	const parameters = new URLSearchParams();
	for (const [key, value] of Object.entries(query))
		for (const one of Array.isArray(value) ? value : [value])
			if (one !== "" && one !== null && one !== undefined)
				parameters.append(key, one);
	const text = parameters.toString();
	let reply, body;
	try {
		reply = await fetch(text ? `${path}?${text}` : path, { headers: { Accept: "application/json" }, ...options });
		body = reply.status === 204 ? null : await reply.json().catch(() => null);
	} catch (error) {
		if (error.name === "AbortError")
			throw error;
		throw new Problem(0, "The control process does not answer. The page tries again by itself.");
	}
	if (reply.ok)
		return body;
	if (reply.status === 401 && !location.pathname.endsWith("/login"))
		window.dispatchEvent(new Event("signed-out"));
	throw new Problem(reply.status, body?.detail ?? `It answered ${reply.status} ${reply.statusText}`, body?.parameter);
}

export function send(path, method, body) {
	return ask(path, {}, { method, headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) }, body: body && JSON.stringify(body) });
}

/*
 * A question that is asked again and again: only the newest answer counts, an old one is called off. `show(answer)` and
 * `fail(problem)` are called in order.
 */
export class Question {
	constructor(show, fail) {
		this.show = show;
		this.fail = fail;
	}

	async put(make) {
		this.stop();
		const mine = this.abort = new AbortController();
		try {
			const answer = await make({ signal: mine.signal });
			if (!mine.signal.aborted)
				this.show(answer);
		} catch (error) {
			if (mine.signal.aborted || error.name === "AbortError")
				return;
			if (!(error instanceof Problem))
				throw error;
			this.fail(error);
		}
	}

	stop() {
		this.abort?.abort();
	}
}
