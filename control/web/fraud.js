/* Fraud: which rules tag how much over time, and each tagged click with its evidence. */
import { Question, ask } from "./api.js";
import { Chart } from "./chart.js";
import { blank, choices, h, icon, panel, say } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";
import * as refused from "./refused.js";
import { range_picker } from "./range.js";
import { Table } from "./table.js";

export const title = "Fraud";

const colours = ["amber", "blue", "violet", "teal", "rose", "green", "red", "grey"];
const names = ["ip_velocity", "device_velocity", "too_soon", "no_impression", "bot_user_agent", "bot_address", "blocklisted", "no_mouse",
	"regular_timing", "device_spread", "device_mismatch", "geo_mismatch", "impossible_travel", "model"];
const classes = [["", "Both"], ["GIVT", "GIVT", "General invalid traffic: known by lists and counts"], ["SIVT", "SIVT", "Sophisticated invalid traffic: known by looking closer"]];
const PAGE = 50, ROWS_MAX = 1000;
const EVERY_MS = 10000;
const STEP_MS = { "1m": 60000, "1h": 3600000, "1d": 86400000 };

/* A line of evidence in words: what was seen, and the limit, in the rule's units (docs/fraud.md). */
const wordings = {
	ip_velocity: ({ seen, limit }) => `${format.count(seen)} clicks in the hour, limit ${format.count(limit)}`,
	device_velocity: ({ seen, limit }) => `${format.count(seen)} clicks in the hour, limit ${format.count(limit)}`,
	too_soon: ({ seen, limit }) => `${format.count(seen)} ms after the impression, limit ${format.count(limit)} ms`,
	no_impression: ({ limit }) => `none in the ${format.span(limit)} before`,
	no_mouse: () => "no mouse moved",
	regular_timing: ({ seen, limit, detail }) => `gaps differ by ${format.count(seen)} ms, limit ${format.count(limit)} ms${detail ? `, ${format.count(detail)} gaps` : ""}`,
	device_spread: ({ seen, limit, detail }) => `${format.count(seen)} ${detail === 1 ? "user agents" : "addresses"} in the hour, limit ${format.count(limit)}`,
	impossible_travel: ({ seen, limit, detail }) => `${format.count(seen)} km/h${detail ? ` over ${format.count(detail)} km` : ""}, limit ${format.count(limit)} km/h`,
	model: ({ seen, limit }) => `score ${(seen / 1e6).toFixed(3)}, limit ${(limit / 1e6).toFixed(3)}`,
};

function evidence_text(one) {
	if (typeof one === "string")
		return one;
	if (typeof one.text === "string" && one.text)
		return one.text;
	if (wordings[one.reason] && (typeof one.seen === "number" || one.reason === "no_mouse"))
		return wordings[one.reason](one);
	return ["seen", "limit", "detail"].filter((key) => one[key] !== undefined && one[key] !== null).map((key) => `${key} ${one[key]}`).join(", ");
}

export function mount(root, page) {
	const picker = range_picker("1d");
	const klass = choices("Class", classes, (value) => place.change({ class: value }));
	const campaign = h("input", { type: "search", maxlength: "64", placeholder: "All campaigns", autocomplete: "off", spellcheck: "false", "aria-label": "Campaign", "data-search": true });
	const reason = h("select", { "aria-label": "Reason", onchange: () => place.change({ reason: reason.value }) }, h("option", { value: "" }, "All reasons"), names.map((name) => h("option", { value: name }, format.words(name))));
	const form = h("form.search", { onsubmit: (event) => {
		event.preventDefault();
		place.change({ campaign: campaign.value.trim() });
	} }, campaign, h("button", { type: "submit" }, icon("search"), "Filter"));
	campaign.addEventListener("search", () => campaign.value === "" && place.change({ campaign: "" }));

	const chart = new Chart({ label: "Flagged clicks by reason", series: [], size: "tall", onzoom: (from, to) => place.change({ from: Math.floor(from / 60000) * 60000, to: Math.ceil(to / 60000) * 60000, range: "" }) });
	const chart_panel = panel("Reasons over time", "", chart.node), total = h("p.big", h("strong.value"), h("span.note"));
	chart_panel.querySelector(".title").append(total);
	const chart_failed = h("div", { hidden: true });
	chart_panel.append(chart_failed);
	const reasons = new Table({
		label: "Clicks by reason", key: (row) => row.name, order: { key: "count", down: true },
		empty: () => blank("No flagged clicks", "No rule tagged a click in this range."), onrow: (row) => place.change({ reason: row.name }),
		columns: [
			{ key: "name", title: "Reason", cell: (row) => h("button.link", { type: "button", onclick: () => place.change({ reason: row.name }) }, h(`i.dot.of-${row.colour}`), format.words(row.name)), mark: (row) => [row.name, row.colour], value: (row) => row.name },
			{ key: "count", title: "Clicks", number: true, text: (row) => format.count(row.count) },
			{ key: "share", title: "Share", number: true, text: (row) => format.percent(row.share) },
		],
	});
	const note = h("p.under", "A click with several reasons counts under each of them.");
	const split = h("div.split", { role: "img", "aria-label": "GIVT and SIVT", hidden: true }), split_text = h("p.under");

	const table = new Table({
		label: "Flagged clicks", key: (row) => row.event_id, limit: ROWS_MAX,
		empty: () => blank("No flagged clicks", "No rule tagged a click in this range and under these filters."),
		columns: [
			{ key: "timestamp", title: "Time", class: "when", text: (row) => format.stamp(typeof row.timestamp === "number" ? row.timestamp : Date.parse(row.timestamp), true), value: (row) => row.timestamp },
			{ key: "campaign_id", title: "Campaign", class: "brief", cell: (row) => h("a", { href: place.link("campaigns", row.campaign_id), title: row.campaign_id }, row.campaign_id), mark: (row) => [row.campaign_id, location.hash] },
			{ key: "ad_id", title: "Ad", class: "brief" },
			{ key: "class", title: "Class" },
			{ key: "reasons", title: "Why", sort: false, class: "why", cell: (row) => why(row), mark: (row) => [row.reasons, row.evidence] },
			{ key: "event_id", title: "Event", class: "id", sort: false, text: (row) => row.event_id, hint: (row) => `${row.event_id} · rules ${row.rule_version}` },
		],
	});
	const more = h("button", { type: "button", hidden: true, onclick: () => load_more() }, "Load older");
	const fresh = h("button.primary", { type: "button", hidden: true, onclick: () => load(true) }, "Show newer");
	const list_panel = panel("Flagged clicks", "newest first", table.node, h("p.actions", more));
	list_panel.querySelector(".title").append(fresh);
	root.append(h("div.bar", form, reason, klass.node, picker.node), h("div.grid", h("div.span-8", chart_panel),
		h("div.span-4", panel("By reason", "", split, split_text, reasons.node, note)), h("div.span-12", list_panel)));

	let query = {}, cursor = null, rows = [], timer = 0, summary = null, range = null, asked = "";

	function why(row) {
		const lines = Array.isArray(row.evidence) ? row.evidence : Object.entries(row.evidence ?? {}).map(([name, value]) => ({ reason: name, ...(typeof value === "object" ? value : { value }) }));
		return h("ul.reasons", row.reasons.map((name) => {
			const seen = lines.filter((one) => one.reason === name).map(evidence_text).filter(Boolean).join("; ");
			return h("li", h("span.tag", format.words(name)), seen && h("span.seen", seen));
		}));
	}

	const summed = new Question((answer) => {
		summary = answer;
		show_summary();
	}, (problem) => {
		if (problem.status === 0 && summary)
			return;
		chart.node.hidden = true;
		chart_failed.hidden = false;
		chart_failed.replaceChildren(page.problem(problem));
		reasons.show([]);
	});
	const listed = new Question(({ answer, older }) => {
		if (older) {
			rows = [...rows, ...answer.items];
		} else if (rows.length > PAGE && rows[0] && answer.items[0]?.event_id !== rows[0].event_id) {
			fresh.hidden = false; /* somebody reads further down: do not move it under them */
			return;
		} else if (rows.length <= PAGE || answer.items[0]?.event_id !== rows[0].event_id) {
			rows = answer.items;
			cursor = answer.cursor;
		}
		if (older)
			cursor = answer.cursor;
		fresh.hidden = true;
		more.hidden = !cursor || rows.length >= ROWS_MAX;
		more.disabled = false;
		table.show(rows);
	}, (problem) => {
		more.disabled = false;
		if (problem.status !== 0 || !rows.length)
			table.fail(page.problem(problem));
	});
	const hush = refused.hear(() => summary && show_summary());

	const about = () => ({ campaign: query.campaign, reason: query.reason, class: query.class, ...(page.who.advertiser ? { advertiser: page.who.advertiser } : {}), from: Math.round(range.from), to: range.live ? "" : Math.round(range.to) });

	function show_summary() {
		chart.node.hidden = false;
		chart_failed.hidden = true;
		const { totals, series } = summary, counted = totals.reasons ?? {};
		/* a reason keeps its colour, whichever are shown */
		const present = names.filter((name) => counted[name] > 0);
		const main = [...present].sort((a, b) => counted[b] - counted[a]).slice(0, present.length > colours.length ? colours.length - 1 : colours.length).sort((a, b) => names.indexOf(a) - names.indexOf(b));
		const others = present.filter((name) => !main.includes(name));
		const key = JSON.stringify([main, others]);
		if (chart.of !== key) {
			chart.of = key;
			chart.set_series([...main.map((name, i) => ({ key: name, name: format.words(name), colour: colours[i], kind: "bar", stack: true, format: format.count })),
				...(others.length ? [{ key: "others", name: `${others.length} others`, colour: "grey", kind: "bar", stack: true, format: format.count }] : [])]);
		}
		const step = STEP_MS[summary.step] ?? 60000;
		chart.width_ms = () => step;
		chart.show(series.map((bucket) => {
			const of = bucket.reasons ?? {};
			const point = [Date.parse(bucket.start), ...main.map((name) => of[name] ?? 0), ...(others.length ? [others.reduce((sum, name) => sum + (of[name] ?? 0), 0)] : [])];
			point.final = bucket.final;
			return point;
		}), series.length ? Date.parse(series[0].start) : range.from, Math.max(range.to, series.length ? Date.parse(series.at(-1).start) + step : 0), refused.bands());
		const flagged = totals.flagged_clicks ?? 0;
		say(total.firstChild, format.count(flagged));
		say(total.lastChild, flagged === 1 ? "click" : "clicks");
		const colour_of = (name) => (main.includes(name) ? colours[main.indexOf(name)] : "grey");
		reasons.show(present.map((name) => ({ name, count: counted[name], share: flagged ? counted[name] / flagged : null, colour: colour_of(name) })));
		note.hidden = present.length < 2;
		const { GIVT = 0, SIVT = 0 } = totals.classes ?? {};
		split.hidden = GIVT + SIVT === 0;
		split.setAttribute("aria-label", `GIVT ${format.count(GIVT)}, SIVT ${format.count(SIVT)}`);
		split.replaceChildren(...[["amber", GIVT, "GIVT"], ["violet", SIVT, "SIVT"]].filter(([, count]) => count).map(([colour, count, name]) => {
			const part = h(`i.of-${colour}`, { title: `${name}: ${format.count(count)}` });
			part.style.flexGrow = String(count);
			return part;
		}));
		say(split_text, GIVT + SIVT ? `GIVT ${format.count(GIVT)} · SIVT ${format.count(SIVT)}` : "");
	}

	function load(anew = false) {
		clearTimeout(timer);
		range = place.range_of(query, Date.now(), "1d");
		const key = JSON.stringify([query.campaign, query.reason, query.class, query.range, query.from, query.to]);
		if (key !== asked || anew) {
			asked = key;
			rows = [];
			cursor = null;
		}
		const length = range.to - range.from;
		const step = length <= 3 * 3600e3 ? "1m" : length <= 7 * 86400e3 ? "1h" : "1d";
		summed.put((options) => ask("api/v1/fraud/summary", { ...about(), to: range.live ? "" : Math.round(range.to), step }, options));
		listed.put(async (options) => ({ answer: await ask("api/v1/fraud/flagged", { ...about(), limit: PAGE }, options) }));
		if (range.live)
			timer = setTimeout(function again() {
				if (document.visibilityState === "visible")
					load();
				else
					timer = setTimeout(again, EVERY_MS);
			}, EVERY_MS);
	}

	function load_more() {
		more.disabled = true;
		listed.put(async (options) => ({ older: true, answer: await ask("api/v1/fraud/flagged", { ...about(), limit: PAGE, cursor }, options) }));
	}

	return {
		update(next) {
			query = next;
			picker.show(query);
			klass.show(query.class ?? "");
			reason.value = names.includes(query.reason) ? query.reason : "";
			if (document.activeElement !== campaign)
				campaign.value = query.campaign ?? "";
			load();
		},
		close() {
			clearTimeout(timer);
			summed.stop();
			listed.stop();
			chart.close();
			hush();
		},
	};
}
