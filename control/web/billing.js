/* Bills: an advertiser's reports by hour, day or month in its time zone, whether they were counted again and agreed, and the file to keep. */
import { Question, ask } from "./api.js";
import { blank, choices, h, icon, panel, say } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";
import { Table } from "./table.js";

export const title = "Billing";

const periods = [["hourly", "Hours"], ["daily", "Days"], ["monthly", "Months"]];
const DAY = 86400000;
/* A reader's own zone first; any other by its name. */
const zones = () => [...new Set(["UTC", Intl.DateTimeFormat().resolvedOptions().timeZone, ...(Intl.supportedValuesOf?.("timeZone") ?? [])])];

/* "2026-11-21T00:00:00+01:00" as its zone writes it: the bill's zone, not the reader's. */
function start_text(text, period) {
	const [, year, month, day, time, offset] = /^(\d+)-(\d\d)-(\d\d)T(\d\d:\d\d)[^Z+-]*(Z|[+-]\d\d:\d\d)$/.exec(text) ?? [];
	if (!year)
		return String(text);
	if (period === "monthly")
		return `${year}-${month}`;
	return period === "daily" ? `${year}-${month}-${day}` : `${year}-${month}-${day} ${time} ${offset === "Z" ? "" : offset}`;
}

/* What the bill's zone is ahead of UTC at a moment; a zone that the browser does not know is left to the server to refuse. */
function ahead_ms(ms, zone) {
	try {
		const parts = Object.fromEntries(new Intl.DateTimeFormat("en", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" })
			.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
		return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) - Math.floor(ms / 1000) * 1000;
	} catch {
		return 0;
	}
}
/* The zone's midnight of a day that is given by its midnight in UTC. */
function midnight(day_ms, zone) {
	return day_ms - ahead_ms(day_ms - ahead_ms(day_ms, zone), zone);
}

const badge = (tone, text, hint) => h(`span.badge.${tone}`, { title: hint }, text);

export function mount(root, page) {
	const own = page.who.advertiser;
	const advertiser = h("input", { type: "search", required: true, maxlength: "64", placeholder: "Advertiser id", autocomplete: "off", spellcheck: "false", "aria-label": "Advertiser", "data-search": true, value: own ?? "", disabled: own ? true : null });
	const period = choices("Period", periods, (value) => place.change({ period: value === "daily" ? "" : value, from: "", to: "" }));
	const zone = h("input", { list: "zones", maxlength: "64", autocomplete: "off", spellcheck: "false", "aria-label": "Time zone of the bill", class: "zone", placeholder: "the advertiser's", onchange: () => place.change({ zone: zone.value }) });
	const days = ["from", "to"].map((name) => h("input", { type: "date", "aria-label": name === "from" ? "First day" : "Up to, without", onchange: () => change_days() }));
	const form = h("form.search", { onsubmit: (event) => {
		event.preventDefault();
		place.change({ advertiser: advertiser.value.trim() });
	} }, advertiser, h("button.primary", { type: "submit" }, icon("search"), "Show"));
	const csv = h("a.button", { hidden: true, download: true }, icon("download"), "CSV");
	const table = new Table({
		label: "Reports", key: (row) => `${row.start} ${row.campaign_id}`, limit: 2000,
		empty: () => blank("Nothing to bill", "Nothing was counted for this advertiser in this range. Check the id, or choose other days."),
		columns: [
			{ key: "start", title: "Period", class: "when", text: (row) => start_text(row.start, chosen()), hint: (row) => `${row.start} to ${row.end}` },
			{ key: "campaign_id", title: "Campaign", class: "name", cell: (row) => h("a", { href: place.link("campaigns", row.campaign_id), title: row.campaign_id }, row.campaign_id), mark: (row) => [row.campaign_id, location.hash] },
			{ key: "impressions", title: "Impressions", number: true, text: (row) => format.count(row.impressions) },
			{ key: "clicks", title: "Clicks", number: true, text: (row) => format.count(row.clicks) },
			{ key: "flagged_clicks", title: "Flagged", number: true, text: (row) => format.count(row.flagged_clicks) },
			{ key: "spend", title: "Spend", number: true, text: (row) => format.spend_of(row, true), value: (row) => (row.spend === null ? null : Number(row.spend)) },
			{ key: "final", title: "State", class: "after", cell: (row) => (row.final ? badge("good", "final", "Only a late event can still change it, with a higher revision") : badge("open", "open", "The period is not over: figures still rise")), mark: (row) => row.final, value: (row) => String(row.final) },
			{ key: "reconciled", title: "Counted again", cell: (row) => (row.reconciled === true || row.reconciled === "yes" ? badge("good", "agrees", "Counted again from the raw segments, with the same result")
				: row.reconciled === "differs" ? badge("bad", "differs", "Counted again from the raw segments, with another result: see the alerts") : badge("none", "not yet", "Not counted again from the raw segments since it last changed")), mark: (row) => row.reconciled, value: (row) => String(row.reconciled) },
			{ key: "report", title: "Issued", cell: (row) => (row.report ? h("a", { href: `api/v1/billing/reports/${encodeURIComponent(row.report)}`, title: `The bill that was issued, with what it came from: ${row.report}` }, "bill") : ""), mark: (row) => row.report, value: (row) => row.report ?? "" },
			{ key: "revision", title: "Rev.", number: true, text: (row) => String(row.revision ?? "") },
		],
	});
	const sums = h("div.tiles.four"), result = panel("Reports", "", table.node);
	result.querySelector(".title").append(csv);
	const totals = new Table({
		label: "Raw segments against reports", key: (row) => row.campaign, order: { key: "campaign", down: false }, limit: 200,
		empty: () => blank("Nothing to compare", "No sealed segments in this range yet."),
		columns: [
			{ key: "campaign", title: "Campaign", class: "name" },
			{ key: "raw_clicks", title: "Clicks, raw", number: true, text: (row) => format.count(row.raw?.clicks), value: (row) => row.raw?.clicks },
			{ key: "reported_clicks", title: "Clicks, reported", number: true, text: (row) => format.count(row.reported?.clicks), value: (row) => row.reported?.clicks, hot: (row) => row.raw?.clicks !== row.reported?.clicks },
			{ key: "raw_impressions", title: "Impressions, raw", number: true, text: (row) => format.count(row.raw?.impressions), value: (row) => row.raw?.impressions },
			{ key: "reported_impressions", title: "Impressions, reported", number: true, text: (row) => format.count(row.reported?.impressions), value: (row) => row.reported?.impressions, hot: (row) => row.raw?.impressions !== row.reported?.impressions },
			{ key: "raw_spend", title: "Spend, raw", number: true, text: (row) => format.spend_of(row.raw ?? {}, true), value: (row) => Number(row.raw?.spend) },
			{ key: "reported_spend", title: "Spend, reported", number: true, text: (row) => format.spend_of(row.reported ?? {}, true), value: (row) => Number(row.reported?.spend), hot: (row) => row.raw?.spend !== row.reported?.spend },
			{ key: "same", title: "Agrees", class: "after", cell: (row) => (same(row) ? badge("good", "agrees") : row.moving ? badge("open", "moving", "Events came while it was counted: count again") : badge("bad", "differs")), mark: (row) => [same(row), row.moving], value: (row) => String(same(row)) },
		],
	});
	const promise = "The same range, recomputed from the raw segments by code of its own, beside what is reported.", lead = h("p.lead", { role: "status" }, promise);
	const recount = h("button", { type: "button", onclick: () => count_again() }, icon("refresh"), "Count again now");
	const recount_panel = panel("Reconciliation", "counted again from the raw segments, by campaign", lead, h("p.actions", recount), totals.node);
	totals.node.hidden = true;
	root.append(h("div.bar", form, period.node, h("label.inline", "From", days[0]), h("label.inline", "to", days[1]), h("label.inline", "Zone", zone), h("datalist", { id: "zones" }, zones().map((name) => h("option", { value: name })))),
		sums, h("div.grid", h("div.span-12", result), h("div.span-12", recount_panel)));

	let query = {}, report_query = null, answered = null;
	const chosen = () => (periods.some(([value]) => value === query.period) ? query.period : "daily");

	function same(row) {
		if (row.equal !== undefined)
			return row.equal;
		return ["impressions", "clicks", "flagged_clicks", "spend"].every((key) => JSON.stringify(row.raw?.[key]) === JSON.stringify(row.reported?.[key]));
	}

	function change_days() {
		const [from, to] = days.map((input) => Date.parse(`${input.value}T00:00:00Z`));
		if (from < to)
			place.change({ from, to });
	}

	const question = new Question((answer) => {
		const rows = answer.items;
		answered = answer;
		result.hidden = false;
		recount_panel.hidden = Boolean(own);
		/* the bill's own days, as its zone writes them */
		[answer.from, answer.to].forEach((value, i) => { days[i].value = String(value).slice(0, 10); });
		zone.placeholder = answer.tz ?? "UTC";
		table.show(rows);
		csv.hidden = rows.length === 0;
		csv.href = `api/v1/billing/reports?${new URLSearchParams({ ...report_query, format: "csv" })}`;
		csv.setAttribute("download", `${report_query.advertiser}-${report_query.period}.csv`);
		const money = new Map();
		for (const row of rows)
			for (const [currency, spend] of row.spend_by_currency ? Object.entries(row.spend_by_currency) : [[row.currency ?? "", row.spend]])
				if (spend && /[1-9]/.test(spend))
					money.set(currency, (money.get(currency) ?? 0n) + micros(spend));
		const open = rows.filter((row) => !row.final).length, agreed = rows.filter((row) => row.reconciled === true || row.reconciled === "yes").length;
		const tile = (name, value, small) => h("div.tile", h("span.label", name), h("strong", value), h("span.delta", small || "\u00a0"));
		sums.replaceChildren(
			tile("To bill", money.size ? [...money].map(([currency, sum]) => format.money(micros_text(sum), currency)).join(" + ") : "0.00", money.size > 1 ? "currencies are never added" : ""),
			tile("Valid clicks", format.count(rows.reduce((sum, row) => sum + row.clicks, 0)), `${format.count(rows.reduce((sum, row) => sum + row.flagged_clicks, 0))} flagged, not billed`),
			tile("Final", rows.length ? `${rows.length - open} of ${rows.length}` : "–", open ? "the others are still open" : rows.length ? "all periods are over" : ""),
			tile("Counted again", rows.length ? `${agreed} of ${rows.length}` : "–", agreed === rows.length && rows.length ? "all agree" : "from the raw segments"));
		sums.hidden = rows.length === 0;
	}, (problem) => {
		sums.hidden = true;
		csv.hidden = true;
		result.hidden = false;
		table.fail(page.problem(problem));
	});
	const again = new Question((answer) => {
		recount.disabled = false;
		totals.node.hidden = false;
		const billed = new Set(answered.items.map((row) => row.campaign_id)), mine = answer.items.filter((row) => billed.has(row.campaign));
		totals.show(mine);
		say(lead, `${mine.every(same) ? "All campaigns of this bill agree" : "Some campaigns of this bill differ"}: ${format.count(answer.events)} events counted again in ${format.count(answer.segments)} sealed segments${answer.unsealed_logs ? ` and ${format.count(answer.unsealed_logs)} open logs` : ""}.`);
		lead.classList.toggle("bad", !mine.every(same) && !mine.some((row) => row.moving));
	}, (problem) => {
		recount.disabled = false;
		totals.node.hidden = false;
		totals.fail(page.problem(problem));
	});

	function count_again() {
		recount.disabled = true;
		again.put((options) => ask("api/v1/reconcile/totals", { from: answered.from, to: answered.to, by: "campaign" }, options));
	}

	/* The days that were chosen, as midnights in UTC; null: the server's own choice. */
	function chosen_days() {
		const [from, to] = [Number(query.from), Number(query.to)];
		return query.from && query.to && from < to ? [Math.floor(from / DAY) * DAY, Math.ceil(to / DAY) * DAY] : null;
	}

	return {
		update(next) {
			query = next;
			period.show(chosen());
			zone.value = query.zone ?? "";
			const id = own ?? query.advertiser ?? "", range = chosen_days();
			if (document.activeElement !== advertiser)
				advertiser.value = id;
			again.stop(); /* it was about the bill before */
			recount.disabled = false;
			totals.node.hidden = true;
			say(lead, promise);
			recount_panel.hidden = true;
			if (!id) {
				question.stop();
				sums.hidden = true;
				csv.hidden = true;
				report_query = null;
				table.fail(blank("Whose bills?", "Type an advertiser's id above. Its reports come by hour, day or month, in the time zone of the bill."));
				return;
			}
			report_query = { advertiser: id, period: chosen(), ...(query.zone && { tz: query.zone }) };
			if (range)
				range.forEach((day, i) => { report_query[i ? "to" : "from"] = new Date(midnight(day, query.zone ?? answered?.tz ?? "UTC")).toISOString(); });
			question.put((options) => ask("api/v1/billing/reports", report_query, options));
		},
		close() {
			question.stop();
			again.stop();
		},
	};
}

/* Exact sums of text with six decimals. */
function micros(text) {
	const [units, decimals = ""] = text.replace("-", "").split(".");
	const value = BigInt(units) * 1000000n + BigInt(decimals.padEnd(6, "0").slice(0, 6));
	return text.startsWith("-") ? -value : value;
}
function micros_text(value) {
	const size = value < 0n ? -value : value;
	return `${value < 0n ? "-" : ""}${size / 1000000n}.${String(size % 1000000n).padStart(6, "0")}`;
}
