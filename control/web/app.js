/*
 * The dashboard: one Server-Sent Event a second from /api/v1/live, ten minutes of history from /api/v1/live/history at the start.
 * All state is bounded, and text goes in as text: a campaign may be called anything.
 */

import { Chart } from "./chart.js";
import * as format from "./format.js";
import { look_up_campaign, redraw as redraw_lookup } from "./lookup.js";

const $ = (id) => document.getElementById(id);
const SPAN_MS = 600000;
const SPAN_MIN_MS = 60000;
const STALE_MS = 4000;

/* Samples of the last ten minutes: {time, clicks, impressions, conversions, p50, p99, lag}. */
let samples = [];
let last = null; /* the newest message */
let last_at = 0; /* when it came, by our own clock */

const charts = {
	clicks: new Chart($("clicks-chart"), { series: [{ colour: "amber", fill: true, width: 1.8 }], format: format.axis }),
	impressions: new Chart($("impressions-chart"), { series: [{ colour: "blue", fill: true }], spark: true }),
	conversions: new Chart($("conversions-chart"), { series: [{ colour: "green", fill: true }], spark: true }),
	ack: new Chart($("ack-chart"), { series: [{ colour: "violet" }, { colour: "blue" }], spark: true }),
	lag: new Chart($("lag-chart"), { series: [{ colour: "grey" }], spark: true }),
};

/* ---- small tools ---- */

function set(id, text) {
	const node = $(id);
	if (node.textContent !== text)
		node.textContent = text;
}

function cell(row, text, name) {
	const made = row.insertCell();
	made.textContent = text;
	if (name)
		made.className = name;
	return made;
}

function meter(node, share, warn, bad) {
	node.firstElementChild.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
	node.classList.toggle("warn", warn && !bad);
	node.classList.toggle("bad", bad);
	node.setAttribute("aria-label", format.percent(share));
}

/* ---- parts ---- */

const state_words = {
	taking: "taking beacons", starting: "starting", no_space: "no space", stopping: "stopping",
	gone: "not running", absent: "never seen", stalled: "not responding", lost: "connection lost",
};

const state_banners = {
	no_space: ["bad", "The disk is full. Beacons are refused with 503 and taken again by themselves once there is space."],
	gone: ["bad", "The data process is not running. These are its last figures; queries go on answering from what is stored."],
	absent: ["", "No data process has been seen yet. Start it with the same configuration file: turnpiked -c FILE"],
	stalled: ["bad", "The data process has not moved for some seconds."],
	starting: ["", "The data process is reading back its log. It takes beacons when it is done."],
	stopping: ["", "The data process is making everything durable and stops."],
	lost: ["bad", "The control process does not answer. Trying again; what you see is what it said last."],
};

function show_state(state) {
	const pill = $("state"), banner = $("banner"), said = state_banners[state];
	pill.dataset.state = state;
	set("state", state_words[state] ?? state);
	banner.hidden = !said;
	banner.classList.toggle("bad", said?.[0] === "bad");
	if (said)
		set("banner", said[1]);
	document.body.classList.toggle("stale", state === "lost" || state === "gone");
}

function show_now(message) {
	const { per_second: now, ack } = message;
	const clicks = now.clicks === null ? null : now.clicks + now.flagged_clicks;
	set("node", message.node);
	set("path", message.receive_path || "–");
	set("http", message.http || "–");
	set("udp", message.udp || "–");
	set("uptime", message.connected ? format.span(message.time_ms - message.started_ms) : "–");
	set("clicks", format.rate(clicks));
	set("clicks-note", now.flagged_clicks ? `${format.rate(now.flagged_clicks)} of them flagged` : "");
	set("impressions", format.rate(now.impressions));
	set("conversions", format.rate(now.conversions));
	set("ack", ack.p50_ms === null ? "–" : `${format.latency(ack.p50_ms)} · ${format.latency(ack.p99_ms)}`);
	set("lag", message.watermark_lag_ms === null ? "–" : format.span(message.watermark_lag_ms));
	document.title = `${format.rate(clicks)} clicks/s · ${message.node || "Turnpike"}`;

	const free = message.total_bytes ? message.free_bytes / message.total_bytes : 0;
	set("disk", message.total_bytes ? format.bytes(message.free_bytes) : "–");
	set("disk-note", message.total_bytes ? `of ${format.bytes(message.total_bytes)}` : "");
	meter($("disk-meter"), free, free < 0.15, free < 0.05);
	const fill = message.ids_max ? message.ids / message.ids_max : 0;
	set("ids", message.ids_max ? format.rate(message.ids) : "–");
	set("ids-note", message.ids_max ? `room for ${format.rate(message.ids_max)}` : "");
	meter($("ids-meter"), fill, fill > 0.9, false);
}

function show_charts() {
	const to = samples.length ? samples.at(-1).time : Date.now();
	/* a young history fills the width, from one minute on */
	const from = Math.min(to - SPAN_MIN_MS, Math.max(to - SPAN_MS, samples[0]?.time ?? 0));
	const points = (...names) => samples.map((sample) => [sample.time, ...names.map((name) => sample[name])]);
	charts.clicks.show(points("clicks"), from, to);
	charts.impressions.show(points("impressions"), from, to);
	charts.conversions.show(points("conversions"), from, to);
	charts.ack.show(points("p99", "p50"), from, to);
	charts.lag.show(points("lag"), from, to);
}

function show_top(message) {
	const body = $("top").tBodies[0];
	set("top-note", `last ${message.top_minutes} minutes`);
	body.replaceChildren();
	for (const campaign of message.top) {
		const row = body.insertRow(), name = cell(row, "", "name"), link = document.createElement("button");
		link.className = "link";
		link.textContent = campaign.campaign;
		link.title = campaign.campaign;
		link.addEventListener("click", () => look_up_campaign(campaign.campaign));
		name.append(link);
		cell(row, format.count(campaign.clicks), "n");
		cell(row, format.count(campaign.flagged_clicks), campaign.flagged_clicks ? "n" : "n zero");
		cell(row, format.percent(campaign.ctr), "n");
		cell(row, format.money(campaign.spend, campaign.currency), "n");
	}
	$("top").hidden = message.top.length === 0;
	$("top-empty").hidden = message.top.length !== 0;
}

function core_line() {
	const line = document.createElement("li");
	for (const name of ["name", "meter", "n busy", "n role rate"]) {
		const part = document.createElement(name === "meter" ? "div" : "span");
		part.className = name;
		if (name === "meter")
			part.append(document.createElement("i"));
		line.append(part);
	}
	return line;
}

function show_cores(message) {
	const list = $("cores");
	while (list.children.length < message.cores.length)
		list.append(core_line());
	while (list.children.length > message.cores.length)
		list.lastElementChild.remove();
	message.cores.forEach((core, i) => {
		const [name, bar, busy, flow] = list.children[i].children;
		const role = [core.rx && "rx", core.shard && "shard"].filter(Boolean).join(" + ");
		const events = core.shard ? core.sharded_per_second : core.received_per_second;
		name.textContent = `CPU ${core.cpu}  ${role}`;
		busy.textContent = core.busy === null ? "–" : `${Math.round(core.busy * 100)}%`;
		flow.textContent = events === null ? "" : `${format.rate(events)} events/s`;
		meter(bar, core.busy ?? 0, core.busy > 0.75, core.busy > 0.92);
	});
	$("cores-empty").hidden = message.cores.length !== 0;
}

const event_states = [
	["received", "received"], ["accepted", "accepted"], ["duplicates", "duplicates"], ["late", "late, counted"],
	["conflicts", "conflicts"], ["rejected", "rejected"], ["dropped", "dropped"], ["in_flight", "in flight"],
];

function show_events(message) {
	const body = $("events").tBodies[0], split = $("split");
	body.replaceChildren();
	split.replaceChildren();
	for (const [key, words] of event_states) {
		const total = message.totals[key], row = body.insertRow(), name = cell(row, "", key === "received" ? "sum" : "");
		const dot = document.createElement("span");
		dot.className = `dot of-${key}`;
		name.append(dot, words);
		cell(row, format.count(total), total ? "n" : "n zero");
		cell(row, key === "in_flight" ? "" : format.rate(message.per_second[key]), message.per_second[key] ? "n" : "n zero");
		if (key === "received" || !total)
			continue;
		const part = document.createElement("i");
		part.className = `of-${key}`;
		part.style.flexGrow = String(total);
		part.title = `${words}: ${format.count(total)}`;
		split.append(part);
	}
}

function show_refusals(message) {
	const body = $("refusals").tBodies[0];
	body.replaceChildren();
	for (const refusal of [...message.refusals].sort((a, b) => b.total - a.total)) {
		const row = body.insertRow();
		cell(row, refusal.layer);
		cell(row, refusal.reason.replaceAll("_", " ")).title = refusal.help;
		cell(row, format.count(refusal.total), "n");
		cell(row, format.rate(refusal.per_second), refusal.per_second ? "n hot" : "n zero");
	}
	$("refusals").hidden = message.refusals.length === 0;
	$("refusals-empty").hidden = message.refusals.length !== 0;
}

/* ---- the stream ---- */

function sample_of(message) {
	const { per_second: now, ack } = message, known = message.connected && now.clicks !== null;
	return {
		time: message.time_ms,
		clicks: known ? now.clicks + now.flagged_clicks : null,
		impressions: known ? now.impressions : null,
		conversions: known ? now.conversions : null,
		p50: ack.p50_ms,
		p99: ack.p99_ms,
		lag: message.connected ? message.watermark_lag_ms : null,
	};
}

function keep(sample) {
	samples.push(sample);
	while (samples.length && (samples[0].time < sample.time - SPAN_MS || samples.length > 1000))
		samples.shift();
}

function show(message) {
	last = message;
	last_at = Date.now();
	document.body.classList.remove("waiting");
	/* a clock that was set back begins the charts anew */
	if (samples.length && samples.at(-1).time > message.time_ms)
		samples = [];
	keep(sample_of(message));
	show_state(message.state);
	show_now(message);
	show_charts();
	show_top(message);
	show_cores(message);
	show_events(message);
	show_refusals(message);
}

async function load_history() {
	try {
		const reply = await fetch("api/v1/live/history");
		if (!reply.ok)
			return;
		const { fields, samples: rows } = await reply.json();
		const names = { time_ms: "time", p50_ms: "p50", p99_ms: "p99", lag_ms: "lag" };
		const old = rows.map((row) => Object.fromEntries(fields.map((field, i) => [names[field] ?? field, row[i]])));
		if (!old.length)
			return; /* a control process that has just begun: what we have is more */
		const before = samples.filter((sample) => sample.time < old[0].time);
		const after = samples.filter((sample) => sample.time > old.at(-1).time);
		samples = [...before, ...old, ...after];
		show_charts();
	} catch {
		/* the stream says so, if the process is away */
	}
}

function connect() {
	const stream = new EventSource("api/v1/live");
	stream.onopen = load_history;
	stream.onmessage = (event) => show(JSON.parse(event.data));
	stream.onerror = () => {
		show_state("lost");
		/* the browser tries again by itself, but not after a refusal */
		if (stream.readyState === EventSource.CLOSED)
			setTimeout(connect, 3000);
	};
}

setInterval(() => {
	const age = Date.now() - last_at;
	if (last && age > STALE_MS)
		show_state("lost");
	set("age", last ? `updated ${age < 1500 ? "now" : `${format.span(age)} ago`} · ${format.time(last.time_ms, true)}` : "waiting for the first message");
}, 1000);

/* ---- theme ---- */

function set_theme(theme) {
	document.documentElement.dataset.theme = theme;
	Object.values(charts).forEach((chart) => chart.redraw());
	redraw_lookup();
}

const chosen = localStorage.getItem("theme");
const light = window.matchMedia("(prefers-color-scheme: light)");
set_theme(chosen ?? (light.matches ? "light" : "dark"));
light.addEventListener("change", () => localStorage.getItem("theme") ?? set_theme(light.matches ? "light" : "dark"));
$("theme").addEventListener("click", () => {
	const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
	localStorage.setItem("theme", theme);
	set_theme(theme);
});

connect();
