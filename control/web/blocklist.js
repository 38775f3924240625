/* The blocklist: who is kept out, why, until when, and how often it hit. Changes are in force when the answer comes. */
import { Problem, Question, ask, send } from "./api.js";
import { blank, h, icon, panel, say } from "./dom.js";
import * as format from "./format.js";
import { Table } from "./table.js";

export const title = "Blocklist";

const EVERY_MS = 5000, LIMIT = 1000;
const ttls = [["", "For good"], ["1h", "1 hour"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"]];

export function mount(root, page) {
	const prefix = h("input", { required: true, maxlength: "64", placeholder: "192.0.2.0/24 or 2001:db8::/32", autocomplete: "off", spellcheck: "false", "aria-label": "Address or prefix", "data-search": true });
	const reason = h("input", { maxlength: "127", placeholder: "Reason", autocomplete: "off", "aria-label": "Reason" });
	const ttl = h("select", { "aria-label": "How long" }, ttls.map(([value, text]) => h("option", { value }, text)));
	const count_only = h("input", { type: "checkbox" });
	const submit = h("button.primary", { type: "submit" }, icon("plus"), "Block"), problem = h("p.problem", { role: "alert", hidden: true }), done = h("p.done", { role: "status" });
	const form = h("form.search.wide", { onsubmit: (event) => {
		event.preventDefault();
		add();
	} }, prefix, reason, ttl, h("label.check", count_only, "count only"), submit);
	count_only.addEventListener("change", () => say(submit.lastChild, count_only.checked ? "Count" : "Block"));
	const table = new Table({
		label: "Blocklist", key: (row) => row.prefix, limit: LIMIT,
		empty: () => blank("Nobody is blocked", "Add an address or a prefix above; it is in force within a second, on every port."),
		columns: [
			{ key: "prefix", title: "Prefix", class: "id", text: (row) => row.prefix },
			{ key: "count_only", title: "What", text: (row) => (row.count_only ? "counted" : "dropped") },
			{ key: "reason", title: "Reason", class: "name", hint: (row) => row.reason },
			{ key: "file", title: "From", text: (row) => row.file?.split("/").at(-1) ?? "operator", hint: (row) => row.file ?? "" },
			{ key: "added_ms", title: "Since", text: (row) => (row.added_ms ? format.stamp(row.added_ms) : "–"), value: (row) => row.added_ms },
			{ key: "expires_ms", title: "Until", text: (row) => (row.expires_ms ? format.stamp(row.expires_ms) : "for good"), value: (row) => row.expires_ms ?? Infinity },
			{ key: "hits", title: "Hits", number: true, text: (row) => format.count(row.hits) },
			{ key: "act", title: "", name: "actions", sort: false, class: "n", cell: (row) => (row.file ? "" : remover(row)), mark: (row) => [row.prefix, row.file] },
		],
	});
	const note = h("p.under"), files = h("ul.files");
	root.append(panel("Block or count", "packets by where they come from; the longest prefix decides", form, problem, done), h("div.gap"), panel("In force", "", table.node, note, files));

	let timer = 0, pending = null, closed = false;
	const question = new Question((answer) => {
		table.show(answer.items);
		say(note, answer.total > answer.items.length ? `The first ${format.count(answer.items.length)} of ${format.count(answer.total)} are shown: turnpikectl blocklist list has all.` : answer.total ? `${format.count(answer.total)} in force.` : "");
		files.replaceChildren(...(answer.files ?? []).map((file) => h("li", `${file.file}: ${format.count(file.entries)} entries`, file.count_only ? ", counted only" : "",
			file.bad_lines ? h("span.bad", `, ${format.count(file.bad_lines)} bad lines`) : "", file.error ? h("span.bad", `, not loaded: ${file.error}`) : "")));
	}, (fault) => {
		if (fault.status !== 0 || !table.rows.length)
			table.fail(page.problem(fault));
	});

	/* Asks once more in the row itself: no dialog to dismiss, nothing that happens by a slip. */
	function remover(row) {
		const ask_first = h("button.quiet", { type: "button", "aria-label": `Unblock ${row.prefix}`, onclick: () => {
			clearTimeout(pending);
			sure.hidden = false;
			ask_first.hidden = true;
			sure.focus();
			pending = setTimeout(calm, 5000);
		} }, icon("close"));
		const calm = () => {
			sure.hidden = true;
			ask_first.hidden = false;
		};
		const sure = h("button.danger", { type: "button", hidden: true, onclick: () => take(row.prefix), onblur: calm }, "Unblock");
		return h("span", ask_first, sure);
	}

	function said(fault, words = "") {
		problem.hidden = !fault;
		say(problem, fault ?? "");
		say(done, words);
	}

	async function change(work, words) {
		submit.disabled = true;
		try {
			await work();
			said(null, words);
			load();
			return true;
		} catch (fault) {
			if (!(fault instanceof Problem))
				throw fault;
			said(fault.message);
			return false;
		} finally {
			submit.disabled = false;
		}
	}

	async function add() {
		const entry = { prefix: prefix.value.trim(), reason: reason.value.trim(), count_only: count_only.checked, ttl: ttl.value || null };
		if (await change(() => send("api/v1/blocklist", "POST", entry), `${entry.prefix} is ${entry.count_only ? "counted" : "blocked"} from now on.`)) {
			form.reset();
			say(submit.lastChild, "Block");
			prefix.focus();
		}
	}

	async function take(entry) {
		if (await change(() => send(`api/v1/blocklist?${new URLSearchParams({ prefix: entry })}`, "DELETE"), `${entry} is let in again.`))
			prefix.focus();
	}

	function load() {
		clearTimeout(timer);
		if (closed)
			return; /* a change was answered after the view was left */
		if (document.visibilityState === "visible")
			question.put((options) => ask("api/v1/blocklist", { limit: LIMIT }, options));
		timer = setTimeout(load, EVERY_MS);
	}

	return {
		update: load,
		close() {
			closed = true;
			clearTimeout(timer);
			clearTimeout(pending);
			question.stop();
		},
	};
}
