/* The look-up form: one question to /api/v1/analytics, shown as totals, a chart and a table. */

import { Chart } from "./chart.js";
import * as format from "./format.js";

const $ = (id) => document.getElementById(id);

const day = (x) => new Date(x).toLocaleDateString("en-GB", { month: "short", day: "numeric" });

const chart = new Chart($("lookup-chart"), {
	series: [{ colour: "amber" }],
	format: format.axis,
	bars: true,
	label: (x) => (long ? day(x) : format.time(x)),
	hover: (x) => (long ? day(x) : `${day(x)} ${format.time(x)}`),
});
let long = false; /* whole days on the axis */
let asked = 0; /* only the newest answer is shown */

function cell(row, text, name) {
	const made = row.insertCell();
	made.textContent = text;
	if (name)
		made.className = name;
	return made;
}

function fact(name, value) {
	const pair = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
	term.textContent = name;
	text.textContent = value;
	pair.append(term, text);
	return pair;
}

function spend_of(sums) {
	if (sums.spend_by_currency)
		return Object.entries(sums.spend_by_currency).map(([currency, spend]) => format.money(spend, currency)).join(" + ");
	return format.money(sums.spend, sums.currency);
}

function show(answer, group) {
	const { totals } = answer;
	$("lookup-totals").replaceChildren(
		fact("impressions", format.count(totals.impressions)),
		fact("clicks", format.count(totals.clicks)),
		fact("flagged", format.count(totals.flagged_clicks)),
		fact("conversions", format.count(totals.conversions)),
		fact("CTR", format.percent(totals.ctr)),
		fact("spend", spend_of(totals)),
		fact("revision", String(answer.revision)),
		fact("final before", `${day(Date.parse(answer.watermark))} ${format.time(Date.parse(answer.watermark), true)}`));
	long = answer.step !== "1m";
	const times = answer.series.map((bucket) => Date.parse(bucket.start));
	const width = times.length > 1 ? times[1] - times[0] : 60000;
	chart.show(answer.series.map((bucket, i) => [times[i], bucket.clicks, bucket.final]), times[0], (times.at(-1) ?? 0) + width);

	const body = $("lookup-groups").tBodies[0];
	$("lookup-group-name").textContent = group;
	body.replaceChildren();
	for (const sums of answer.groups.slice(0, 25)) {
		const row = body.insertRow();
		cell(row, sums[group] || "(none)", "name").title = sums[group];
		cell(row, format.count(sums.impressions), "n");
		cell(row, format.count(sums.clicks), "n");
		cell(row, format.count(sums.flagged_clicks), sums.flagged_clicks ? "n" : "n zero");
		cell(row, format.percent(sums.ctr), "n");
		cell(row, spend_of(sums), "n");
	}
	$("lookup-answer").hidden = false;
}

export async function look_up() {
	const mine = ++asked, group = $("lookup-group").value, problem = $("lookup-problem");
	const parameters = new URLSearchParams({ window: $("lookup-window").value, group_by: group });
	const url = `api/v1/analytics/${$("lookup-kind").value}/${encodeURIComponent($("lookup-id").value)}?${parameters}`;
	let said = "";
	try {
		const reply = await fetch(url);
		const answer = await reply.json();
		if (mine !== asked)
			return;
		if (reply.ok)
			show(answer, group);
		else
			said = answer.detail;
	} catch (error) {
		said = `No answer from the control process (${error.message}).`;
	}
	if (mine !== asked)
		return;
	problem.textContent = said;
	problem.hidden = said === "";
	if (said)
		$("lookup-answer").hidden = true;
}

export function look_up_campaign(id) {
	$("lookup-kind").value = "campaigns";
	$("lookup-id").value = id;
	look_up();
	$("lookup").scrollIntoView({ block: "start", behavior: "smooth" });
}

export function redraw() {
	chart.redraw();
}

$("lookup").addEventListener("submit", (event) => {
	event.preventDefault();
	look_up();
});
for (const id of ["lookup-kind", "lookup-window", "lookup-group"])
	$(id).addEventListener("change", () => $("lookup-id").value && look_up());
