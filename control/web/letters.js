/* Dead letters: what was rejected or conflicts, with its bytes and the reason. */
import { Question, ask } from "./api.js";
import { blank, h, panel } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";
import { Table } from "./table.js";

export const title = "Dead letters";

const names = ["malformed", "missing_field", "bad_type", "bad_value", "too_long", "duplicate_key", "bad_utf8", "future", "too_large", "conflict"];
const PAGE = 50, ROWS_MAX = 1000, EVERY_MS = 10000;

function stamp_of(row) {
	const when = row.received_ms ?? row.received ?? row.timestamp;
	return typeof when === "number" ? when : Date.parse(when);
}

export function mount(root, page) {
	const reason = h("select", { "aria-label": "Reason", onchange: () => place.change({ reason: reason.value }) }, h("option", { value: "" }, "All reasons"), names.map((name) => h("option", { value: name }, format.words(name))));
	const table = new Table({
		label: "Dead letters", key: (row) => row.id ?? `${stamp_of(row)} ${row.event_id}`, limit: ROWS_MAX,
		empty: () => blank("No dead letters", "Every event that came in was understood, and no id came with two payloads."),
		columns: [
			{ key: "received", title: "Received", class: "when", text: (row) => format.stamp(stamp_of(row), true), value: stamp_of },
			{ key: "reason", title: "Reason", class: "when", text: (row) => format.words(row.reason) },
			{ key: "detail", title: "Detail", class: "name", text: (row) => row.detail ?? row.field ?? "", hint: (row) => row.detail ?? row.field ?? "" },
			{ key: "from", title: "From", class: "id", text: (row) => row.peer ?? row.source ?? "" },
			{ key: "way", title: "By", text: (row) => (row.way ?? "").replaceAll("_", " ") },
			{ key: "data", title: "Bytes", sort: false, class: "why", cell: (row) => bytes_of(row), mark: (row) => row.id ?? row.data },
		],
	});
	const more = h("button", { type: "button", hidden: true, onclick: () => load(true) }, "Load older");
	root.append(h("div.bar", reason), panel("Dead letters", "newest first; turnpikectl dlq replay sends them again", table.node, h("p.actions", more)));

	function bytes_of(row) {
		const text = row.encoding === "base64" ? `base64: ${row.data}` : typeof row.data === "string" ? row.data : JSON.stringify(row.event ?? row.data ?? null);
		if (text.length < 90)
			return h("code", text);
		return h("details.bytes", h("summary", h("code", text.slice(0, 120))), h("pre", { tabindex: "0" }, text));
	}

	let query = {}, rows = [], cursor = null, timer = 0;
	const question = new Question(({ answer, older }) => {
		if (!older && rows.length > PAGE)
			return; /* somebody reads further down */
		rows = older ? [...rows, ...answer.items] : answer.items;
		cursor = answer.cursor;
		more.hidden = !cursor || rows.length >= ROWS_MAX;
		table.show(rows);
	}, (problem) => (problem.status !== 0 || !rows.length) && table.fail(page.problem(problem)));

	function load(older = false) {
		clearTimeout(timer);
		if (older || document.visibilityState === "visible")
			question.put(async (options) => ({ older, answer: await ask("api/v1/dlq", { reason: query.reason, limit: PAGE, cursor: older ? cursor : "" }, options) }));
		timer = setTimeout(load, EVERY_MS);
	}

	return {
		update(next) {
			if (next.reason !== query.reason)
				rows = [];
			query = next;
			reason.value = names.includes(query.reason) ? query.reason : "";
			load();
		},
		close() {
			clearTimeout(timer);
			question.stop();
		},
	};
}
