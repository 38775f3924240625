/*
 * Campaigns, ads, advertisers and publishers over any range: totals beside the period before, a chart of one measure, and a break-down by
 * dimension in which each row leads further in.
 */
import { Question, ask } from "./api.js";
import { Chart } from "./chart.js";
import { blank, choices, h, icon, panel, say } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";
import * as refused from "./refused.js";
import { range_picker } from "./range.js";
import { Table } from "./table.js";

export const title = "Campaigns";

const kinds = [["campaigns", "Campaign"], ["ads", "Ad"], ["advertisers", "Advertiser"], ["publishers", "Publisher"]];
const singular = { campaigns: "campaign", ads: "ad", advertisers: "advertiser", publishers: "publisher" };
const dimensions = [["ad", "Ad"], ["campaign", "Campaign"], ["publisher", "Publisher"], ["country", "Country"], ["region", "Region"], ["device", "Device"]];
const measures = {
	impressions: { name: "Impressions", colour: "blue", text: format.count },
	clicks: { name: "Clicks", colour: "amber", text: format.count },
	flagged_clicks: { name: "Flagged", colour: "red", text: format.count },
	ctr: { name: "CTR", colour: "violet", text: format.percent, line: true },
	spend: { name: "Spend", colour: "green", text: (value) => (value === null ? "several" : format.count(value)) },
	conversions: { name: "Conversions", colour: "teal", text: format.count },
};
const LIMIT = 200;
const EVERY_MS = 5000;
const STEP_MS = { "1m": 60000, "1h": 3600000, "1d": 86400000 };

function step_of(range_ms) {
	return range_ms <= 6 * 3600e3 ? "1m" : range_ms <= 14 * 86400e3 ? "1h" : "1d";
}

/* "country:US,device:mobile", where , and : in a value are percent-encoded */
function filters_read(text) {
	return (text ?? "").split(",").filter(Boolean).map((pair) => {
		const cut = pair.indexOf(":");
		let value = pair.slice(cut + 1);
		try {
			value = decodeURIComponent(value);
		} catch { /* as it stands */ }
		return [pair.slice(0, cut), value];
	});
}
function filters_write(filters) {
	return filters.map(([name, value]) => `${name}:${value.replaceAll("%", "%25").replaceAll(",", "%2C").replaceAll(":", "%3A")}`).join(",");
}

function measure_of(sums, measure) {
	if (measure === "spend")
		return sums.spend === null ? null : Number(sums.spend); /* for a bar's height; figures are written from the text */
	return sums[measure];
}

export function mount(root, page) {
	const picker = range_picker();
	const kind = h("select", { "aria-label": "Kind" }, kinds.map(([value, text]) => h("option", { value }, text)));
	const id = h("input", { type: "search", required: true, maxlength: "64", placeholder: "Id", autocomplete: "off", spellcheck: "false", "aria-label": "Id", "data-search": true });
	const form = h("form.search", { onsubmit: (event) => {
		event.preventDefault();
		location.hash = place.link("campaigns", id.value.trim(), { kind: kind.value === "campaigns" ? "" : kind.value });
	} }, kind, id, h("button.primary", { type: "submit" }, icon("search"), "Show"));
	const crumbs = h("nav.crumbs", { "aria-label": "Where you are" });
	const body = h("div");
	root.append(h("div.bar", form, picker.node), crumbs, body);

	let part = null, part_key = null, query = {}, subject = "", timer = 0;

	function begin(key) {
		if (part_key === key)
			return part;
		part?.close();
		body.replaceChildren();
		part_key = key;
		part = key === "list" ? list(body, page) : detail(body);
		return part;
	}

	function load() {
		clearTimeout(timer);
		const range = place.range_of(query, Date.now());
		part.load(query, subject, range);
		if (range.live)
			timer = setTimeout(() => (document.visibilityState === "visible" ? load() : (timer = setTimeout(load, EVERY_MS))), EVERY_MS);
	}

	return {
		update(next_query, next_id) {
			query = next_query;
			subject = next_id;
			kind.value = kinds.some(([value]) => value === query.kind) ? query.kind : "campaigns";
			if (document.activeElement !== id)
				id.value = subject;
			picker.show(query);
			crumbs.hidden = !subject;
			crumbs.replaceChildren(h("a", { href: place.link("campaigns") }, "Campaigns"), h("span", { "aria-hidden": "true" }, "›"), h("span", `${singular[kind.value]} `, h("strong", subject)));
			begin(subject ? `detail` : "list");
			load();
		},
		close() {
			clearTimeout(timer);
			part?.close();
		},
	};
}

/* ---- without an id: who is busiest ---- */

function list(root, page) {
	let most = 1;
	const parts = (row) => {
		const valid = h("i.of-amber"), flagged = h("i.of-red");
		valid.style.width = `${(100 * row.clicks) / most}%`;
		flagged.style.width = `${(100 * row.flagged_clicks) / most}%`;
		return h("div.share.parts", row.clicks > 0 && valid, row.flagged_clicks > 0 && flagged);
	};
	const table = new Table({
		label: "Campaigns", key: (row) => row.key, order: { key: "gross_clicks", down: true }, limit: 100,
		empty: () => blank("No clicks in this range", "Choose a longer range, or look a campaign up by its id."),
		columns: [
			{ key: "key", title: "Campaign", class: "name", cell: (row) => h("a", { href: place.link("campaigns", row.key), title: row.key }, row.key || "(none)"), mark: (row) => [row.key, location.hash] },
			{ key: "share", title: "", name: "share", sort: false, class: "grow", cell: (row) => parts(row), mark: (row) => [row.clicks, row.flagged_clicks, most] },
			{ key: "impressions", title: "Impressions", number: true, text: (row) => format.count(row.impressions) },
			{ key: "clicks", title: "Clicks", number: true, text: (row) => format.count(row.clicks) },
			{ key: "flagged_clicks", title: "Flagged", number: true, text: (row) => format.count(row.flagged_clicks) },
			{ key: "flagged_share", title: "Flagged share", number: true, text: (row) => format.percent(row.gross_clicks ? row.flagged_clicks / row.gross_clicks : null), value: (row) => (row.gross_clicks ? row.flagged_clicks / row.gross_clicks : 0) },
			{ key: "ctr", title: "CTR", number: true, text: (row) => format.percent(row.impressions ? row.clicks / row.impressions : null), value: (row) => (row.impressions ? row.clicks / row.impressions : null) },
			{ key: "conversions", title: "Conversions", number: true, text: (row) => format.count(row.conversions) },
			{ key: "gross_clicks", title: "All clicks", number: true, text: (row) => format.count(row.gross_clicks) },
		],
	});
	const node = panel("Busiest campaigns", "", table.node), note = node.querySelector("h2").appendChild(h("small"));
	root.append(node);
	const question = new Question((answer) => {
		most = Math.max(1, ...answer.items.map((row) => row.gross_clicks));
		table.show(answer.items);
	}, (problem) => table.fail(page.problem(problem)));
	return {
		load(query, _, range) {
			/* the most clicked are known for a day at most: a longer range shows its last day */
			const day = range.to - range.from > 86400e3;
			say(note, day ? "  of the last day of the range" : "");
			const from = day ? range.to - 86400e3 : range.from;
			question.put((options) => ask("api/v1/analytics/trending", { by: "campaign", limit: 100, ...(range.live ? { window: day ? "1d" : range.name } : { from: Math.round(from), to: Math.round(range.to) }) }, options));
		},
		close: () => question.stop(),
	};
}

/* ---- one of them ---- */

function detail(root) {
	let measure = "clicks", answer = null, by = "ad", filters = [], compare = true, shown = "";
	const page_problem = (problem) => blank(problem.title, problem.message, problem.status === 422 && h("button", { type: "button", onclick: () => place.change({ range: "1h", from: "", to: "" }) }, "Show the last hour"));
	const tiles = Object.fromEntries(Object.entries(measures).map(([key, about]) => {
		const value = h("strong"), delta = h("span.delta");
		const node = h("button.tile", { type: "button", "aria-pressed": "false", onclick: () => place.change({ show: key === "clicks" ? "" : key }) }, h("span.label", h(`i.dot.of-${about.colour}`), about.name), value, delta);
		return [key, { node, value, delta }];
	}));
	const chips = h("ul.chips", { "aria-label": "Filters" });
	const chart = new Chart({ label: "Over the range", series: [], size: "tall", onzoom: (from, to) => place.change({ from: Math.floor(from / 60000) * 60000, to: Math.ceil(to / 60000) * 60000, range: "" }) });
	const compared = h("label.check", h("input", { type: "checkbox", onchange: (event) => place.change({ compare: event.target.checked ? "" : "0" }) }), "with the period before");
	const chart_panel = panel("Over time", "", chart.node), chart_title = chart_panel.querySelector("h2");
	chart_panel.querySelector(".title").append(compared);
	const dimension = choices("Broken down by", dimensions, (value) => place.change({ by: value === "ad" ? "" : value }));
	const share = (row) => {
		const bar = h("i"), most = Math.max(1, ...(answer?.groups ?? []).map((one) => Number(measure_of(one, measure) ?? 0)));
		bar.style.width = `${(100 * Number(measure_of(row, measure) ?? 0)) / most}%`;
		return h(`div.share.of-${measures[measure].colour}`, bar);
	};
	const groups = new Table({
		label: "Break-down", key: (row) => row[by], order: { key: "clicks", down: true }, limit: LIMIT,
		empty: () => blank("Nothing in this range", "Nothing was counted for this id under these filters. An id never seen has zeros: check its spelling."),
		onrow: (row) => drill(row),
		onorder: () => place.change({ order: groups.order ? `${groups.order.down ? "-" : ""}${groups.order.key}` : "" }, true),
		columns: [
			{ key: "name", title: "Name", class: "name", value: (row) => row[by], cell: (row) => h("button.link", { type: "button", title: `Only ${row[by] || "(none)"}`, onclick: () => drill(row) }, row[by] || "(none)"), mark: (row) => [by, row[by], filters_write(filters)] },
			{ key: "share", title: "", sort: false, name: "share", class: "grow", cell: share, mark: (row) => [measure, measure_of(row, measure), answer?.revision, answer?.totals?.[measure]] },
			{ key: "impressions", title: "Impressions", number: true, text: (row) => format.count(row.impressions) },
			{ key: "clicks", title: "Clicks", number: true, text: (row) => format.count(row.clicks) },
			{ key: "flagged_clicks", title: "Flagged", number: true, text: (row) => format.count(row.flagged_clicks) },
			{ key: "ctr", title: "CTR", number: true, text: (row) => format.percent(row.ctr) },
			{ key: "conversions", title: "Conversions", number: true, text: (row) => format.count(row.conversions) },
			{ key: "spend", title: "Spend", number: true, text: (row) => format.spend_of(row), value: (row) => (row.spend === null ? null : Number(row.spend)) },
		],
	});
	const facts = h("p.under"), failed = h("div.panel", { hidden: true }), users = h("span");
	const content = h("div.grid", h("div.span-12.tiles", Object.values(tiles).map((tile) => tile.node)), h("div.span-12", chart_panel),
		h("div.span-12", h("section.panel", { "aria-labelledby": "by-title" }, h("div.title", h("h2", { id: "by-title" }, "Broken down by"), dimension.node), groups.node)),
		h("div.span-12", facts));
	root.append(chips, failed, content);

	/* Which groups come when there are more than are shown. Spend cannot be asked for where currencies meet; here the table sorts itself. */
	function server_order() {
		const { key, down } = groups.order;
		return ["impressions", "clicks", "flagged_clicks", "conversions"].includes(key) ? `${down ? "-" : ""}${key}` : "-clicks";
	}

	function drill(row) {
		const value = row[by];
		if (value === undefined || value === "(other)") /* undefined: still the rows of the dimension before */
			return;
		const next = [...filters.filter(([name, old]) => name !== by || old !== value), [by, value]];
		/* what is fixed now need not be listed: on to the next dimension */
		const free = dimensions.map(([name]) => name).filter((name) => !next.some(([fixed]) => fixed === name) && name !== "campaign");
		place.change({ filter: filters_write(next), by: free.includes(by) ? by : free[0] ?? by });
	}

	function show_chips() {
		chips.hidden = filters.length === 0;
		chips.replaceChildren(...filters.map(([name, value], at) => h("li", h("span", `${name}: `, h("strong", value || "(none)")),
			h("button", { type: "button", "aria-label": `Without ${name} ${value || "(none)"}`, onclick: () => place.change({ filter: filters_write(filters.filter((_, i) => i !== at)), by: name }) }, icon("close")))),
		filters.length > 1 && h("li.plain", h("button", { type: "button", onclick: () => place.change({ filter: "" }) }, "Clear all")));
	}

	function show_tiles() {
		const before = answer.previous?.totals;
		for (const [key, tile] of Object.entries(tiles)) {
			say(tile.value, key === "spend" ? format.spend_of(answer.totals) : measures[key].text(answer.totals[key]));
			const change = before && format.change(measure_of(answer.totals, key), measure_of(before, key));
			say(tile.delta, change ? `${change.text} of the period before` : before ? "nothing before" : "\u00a0");
			tile.delta.className = `delta ${!change ? "" : change.share > 0.0005 ? "up" : change.share < -0.0005 ? "down" : ""}`;
			tile.node.setAttribute("aria-pressed", String(key === measure));
		}
		say(users, answer.totals.users == null ? "" : ` · ${format.count(answer.totals.users)} users`);
	}

	function show_chart() {
		const about = measures[measure], line = about.line;
		const text = measure === "ctr" ? format.percent : format.axis;
		say(chart_title, about.name);
		chart.text = text;
		const previous = compare && answer.previous?.series;
		const key = `${measure} ${Boolean(previous)}`;
		if (chart.of !== key) {
			chart.of = key;
			chart.set_series([{ key: measure, name: about.name, colour: about.colour, kind: line ? "line" : "bar", format: about.text },
				...(previous ? [{ key: "previous", name: "Period before", colour: "grey", kind: "line", dash: [4, 3], width: 1.3, format: about.text }] : [])]);
		}
		const times = answer.series.map((bucket) => Date.parse(bucket.start));
		const points = answer.series.map((bucket, i) => {
			const point = [times[i], measure_of(bucket, measure) ?? null];
			if (previous)
				point.push(previous[i] ? measure_of(previous[i], measure) ?? null : null);
			point.final = bucket.final;
			return point;
		});
		const from = times[0] ?? Date.parse(answer.from), to = Math.max(Date.parse(answer.to), (times.at(-1) ?? from) + 1);
		const step = STEP_MS[answer.step] ?? 60000; /* kept: it is drawn at the next frame, when there may be no answer */
		chart.width_ms = () => step;
		chart.show(points, from, to, refused.bands());
	}

	function show() {
		failed.hidden = true;
		content.hidden = false;
		show_tiles();
		show_chart();
		say(groups.heads[0].querySelector("button").firstChild, dimensions.find(([name]) => name === by)?.[1] ?? by);
		groups.show(answer.groups ?? []);
		const open = answer.series.filter((bucket) => !bucket.final).length;
		facts.replaceChildren(`Final up to ${format.stamp(Date.parse(answer.watermark), true)} ${format.zone_text()} · revision ${answer.revision}`,
			open ? ` · ${open} ${open === 1 ? "bucket is" : "buckets are"} open: a paler bar may still rise` : " · all of it is final", answer.groups_total > LIMIT ? ` · the first ${LIMIT} of ${format.count(answer.groups_total)} are listed` : "", answer.overflow ? " · some ads, publishers or regions are put together as (other)" : "", users);
	}

	const question = new Question((got) => {
		answer = got;
		show();
	}, (problem) => {
		if (problem.status === 0 && answer)
			return; /* the banner says it; the last figures stay */
		failed.hidden = false;
		content.hidden = true;
		failed.replaceChildren(page_problem(problem));
	});
	const hush = refused.hear(() => answer && show_chart());

	return {
		load(query, id, range) {
			const what = Object.keys(measures).includes(query.show) ? query.show : "clicks";
			const kind = singular[query.kind] ? query.kind : "campaigns";
			measure = what;
			by = dimensions.some(([name]) => name === query.by) ? query.by : "ad";
			filters = filters_read(query.filter);
			compare = query.compare !== "0";
			compared.firstChild.checked = compare;
			if (query.order)
				groups.order = { key: query.order.replace(/^-/, ""), down: query.order.startsWith("-") };
			dimension.show(by);
			dimension.node.querySelectorAll("button").forEach((button) => { button.hidden = button.dataset.value === singular[kind]; });
			show_chips();
			if (shown !== `${kind} ${id}`) {
				shown = `${kind} ${id}`;
				answer = null;
			} else if (answer) {
				show(); /* what needs no question, at once */
			}
			const step = step_of(range.to - range.from);
			question.put((options) => ask(`api/v1/analytics/${kind}/${encodeURIComponent(id)}`, {
				...(range.live ? { window: range.name } : { from: Math.round(range.from), to: Math.round(range.to) }),
				step, group_by: by, filter: filters_write(filters), order: server_order(), limit: LIMIT,
				compare: compare ? "previous" : "", tz: step === "1d" && format.zone() !== "UTC" ? format.zone() : "",
			}, options));
		},
		close() {
			question.stop();
			chart.close();
			hush();
		},
	};
}

