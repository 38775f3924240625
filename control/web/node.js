/* The node, now: what comes in and how, how fast it is answered, what is turned away and why, and how much room there is. */
import { Chart } from "./chart.js";
import { blank, choices, h, meter, panel, say } from "./dom.js";
import * as format from "./format.js";
import * as place from "./place.js";
import * as refused from "./refused.js";
import * as stream from "./stream.js";
import { Table } from "./table.js";

export const title = "Node";

const spans = [["2m", "2 min"], ["5m", "5 min"], ["10m", "10 min"]];
const span_ms = { "2m": 120000, "5m": 300000, "10m": stream.SPAN_MS };
const SPAN_MIN_MS = 60000;

const way_names = { http: "HTTP", pixel: "Pixel", udp_text: "UDP text", udp_batch: "UDP batch" };
const way_colours = ["blue", "amber", "green", "violet", "teal", "red", "grey", "rose"];
const reason_colours = ["red", "amber", "violet", "blue", "teal", "grey"];
const REASONS_MAX = reason_colours.length;
const kinds = [
	{ key: "impressions", name: "Impressions", colour: "blue", kind: "area", stack: true },
	{ key: "clicks", name: "Clicks", colour: "amber", kind: "area", stack: true },
	{ key: "flagged", name: "Flagged clicks", colour: "red", kind: "area", stack: true },
	{ key: "conversions", name: "Conversions", colour: "green", kind: "area", stack: true },
];
const fates = [
	["received", "Received"], ["accepted", "Accepted"], ["duplicates", "Duplicates"], ["late", "Late, counted"],
	["conflicts", "Conflicts"], ["rejected", "Rejected"], ["dropped", "Dropped"], ["in_flight", "In flight"],
];

/* "socket 127.0.0.1:80 udp_text": the port's name may hold blanks, the way does not */
function split(name) {
	const cut = name.lastIndexOf(" ");
	return [name.slice(0, cut), name.slice(cut + 1)];
}

function figure(title_text, chart, extra) {
	const value = h("strong.value"), note = h("span.note");
	const node = h("section.panel.figure", h("div.title", h("h2", title_text), h("p.big", value, note)), chart?.node, extra);
	return { node, show: (text, small = "") => {
		say(value, text);
		say(note, small);
	} };
}

export function mount(root) {
	const charts = [];
	const plot = (options) => {
		const chart = new Chart(options);
		chart.gap_ms = 5000;
		charts.push(chart);
		return chart;
	};
	const span = choices("Time shown", spans, (value) => place.change({ span: value }));
	let shown_ms = span_ms["10m"];

	const events = plot({ label: "Events per second by kind", series: kinds, format: format.axis, size: "tall" });
	events.series.forEach((series) => { series.format = format.rate; });
	const total = h("strong.value"), total_note = h("span.note");
	const hero = h("section.panel.hero", { "aria-labelledby": "events-title" }, h("div.title", h("h2", { id: "events-title" }, "Events per second"), h("p.big", total, total_note), span.node), events.node);

	const by_port = plot({ label: "Events per second by port", series: [], format: format.axis, size: "tall", legend: true });
	const port_panel = panel("By port", "events per second", by_port.node);

	const ack = plot({ label: "Time until a beacon is acknowledged", series: [
		{ key: "p99", name: "p99", colour: "violet", kind: "line" }, { key: "p50", name: "p50", colour: "blue", kind: "line" }], format: format.latency });
	const ack_figure = figure("Acknowledged in", ack);
	const drops = plot({ label: "Turned away per second, by reason", series: [], format: format.axis });
	const drops_figure = figure("Turned away", drops);
	const written = plot({ label: "Log written per second", series: [{ key: "log", name: "Log", colour: "teal", kind: "area" }], format: (value) => `${format.bytes(value)}${value === null ? "" : "/s"}`, legend: false, base: 1024 });
	const disk = meter("Disk used"), disk_text = h("p.under");
	const disk_figure = figure("Disk", written, h("div", disk.node, disk_text));
	const lag = plot({ label: "Watermark behind the clock", series: [{ key: "lag", name: "Lag", colour: "grey", kind: "line" }], format: (value) => (value === null ? "–" : `${format.axis(value / 1000)} s`), legend: false });
	const ids = meter("Ids remembered"), ids_text = h("p.under");
	const lag_figure = figure("Watermark lag", lag, h("div", ids.node, ids_text));

	const bar = (share, text, tone) => {
		const made = meter("busy");
		made.show(share, text, tone);
		return made.node;
	};
	const cores = new Table({
		label: "Cores", key: (core) => core.cpu, empty: () => blank("No core has reported yet"),
		columns: [
			{ key: "cpu", title: "CPU", number: true, plain: true, text: (core) => String(core.cpu) },
			{ key: "role", title: "Role", text: (core) => [core.rx && "receive", core.shard && "shard"].filter(Boolean).join(" + ") },
			{ key: "busy", title: "Busy", class: "grow", cell: (core) => bar(core.busy ?? 0, format.percent(core.busy), core.busy > 0.92 ? "bad" : core.busy > 0.75 ? "warn" : ""), mark: (core) => core.busy, value: (core) => core.busy },
			{ key: "share", title: "", sort: false, name: "busy share", number: true, text: (core) => (core.busy === null ? "–" : `${Math.round(core.busy * 100)}%`) },
			{ key: "rate", title: "Events/s", number: true, text: (core) => format.rate(core.shard ? core.sharded_per_second : core.received_per_second), value: (core) => (core.shard ? core.sharded_per_second : core.received_per_second) },
			{ key: "event_ns", title: "Per event", number: true, text: (core) => (core.event_ns == null ? "–" : format.latency(core.event_ns / 1e6)), hint: () => "Busy time per event, waiting for work not counted" },
			{ key: "in_flight", title: "In flight", number: true, text: (core) => format.count(core.in_flight) },
		],
	});
	const rings = new Table({
		label: "Rings", key: (shard) => shard.number, empty: () => blank("No shard has reported yet"),
		columns: [
			{ key: "number", title: "Shard", number: true, plain: true },
			{ key: "fill", title: "Fullest ring", class: "grow", cell: (shard) => bar(shard.fill, format.percent(shard.fill), shard.fill > 0.9 ? "bad" : shard.fill > 0.6 ? "warn" : ""), mark: (shard) => shard.fill },
			{ key: "text", title: "", sort: false, name: "ring share", number: true, text: (shard) => `${format.percent(shard.fill)} of ${format.bytes(shard.ring_bytes)}` },
			{ key: "log_waiting", title: "Not durable yet", number: true, text: (shard) => format.count(shard.log_waiting) },
		],
	});
	const layers = new Table({
		label: "Layers", key: (layer) => layer.name, empty: "",
		columns: [
			{ key: "name", title: "Layer", text: (layer) => layer.title, sort: false },
			{ key: "received", title: "Received/s", number: true, sort: false, text: (layer) => format.rate(layer.received.per_second) },
			{ key: "accepted", title: "Passed/s", number: true, sort: false, text: (layer) => format.rate(layer.accepted.per_second) },
			{ key: "away", title: "Turned away/s", number: true, sort: false, text: (layer) => format.rate(layer.rejected.per_second === null ? null : layer.rejected.per_second + layer.dropped.per_second),
				hot: (layer) => layer.rejected.per_second + layer.dropped.per_second > 0 },
			{ key: "total", title: "Turned away", number: true, sort: false, text: (layer) => format.count(layer.rejected.total + layer.dropped.total) },
		],
	});
	const path = h("p.under"), connections = h("p.under");
	const fate_bar = h("div.split", { role: "img", "aria-label": "Shares of what became of all events" });
	const fate = new Table({
		label: "Where every event went", key: (row) => row.key, empty: "",
		columns: [
			{ key: "name", title: "Events", sort: false, cell: (row) => h("span", h(`i.dot.of-${row.key}`), row.name), mark: (row) => row.key },
			{ key: "total", title: "Since start", number: true, sort: false, text: (row) => format.count(row.total) },
			{ key: "share", title: "Share", number: true, sort: false, text: (row) => (row.share === null ? "" : format.percent(row.share)) },
			{ key: "rate", title: "Per second", number: true, sort: false, text: (row) => (row.key === "in_flight" ? "" : format.rate(row.rate)) },
		],
	});
	const refusals = new Table({
		label: "Turned away, by reason", key: (row) => `${row.layer} ${row.reason}`, order: { key: "total", down: true },
		empty: () => blank("Nothing has been turned away", "Every packet, request and event since the start was taken."),
		columns: [
			{ key: "layer", title: "Layer" },
			{ key: "reason", title: "Reason", text: (row) => format.words(row.reason), hint: (row) => row.help },
			{ key: "total", title: "Since start", number: true, text: (row) => format.count(row.total) },
			{ key: "per_second", title: "Per second", number: true, text: (row) => format.rate(row.per_second), hot: (row) => row.per_second > 0 },
		],
	});
	const top = new Table({
		label: "Busiest campaigns", key: (row) => row.campaign,
		empty: () => blank("No clicks in these minutes", "Campaigns appear as soon as their first click is durable."),
		columns: [
			{ key: "campaign", title: "Campaign", class: "name", cell: (row) => h("a", { href: place.link("campaigns", row.campaign), title: row.campaign }, row.campaign), mark: (row) => [row.campaign, location.hash] },
			{ key: "clicks", title: "Clicks", number: true, text: (row) => format.count(row.clicks) },
			{ key: "flagged_clicks", title: "Flagged", number: true, text: (row) => format.count(row.flagged_clicks) },
			{ key: "ctr", title: "CTR", number: true, text: (row) => format.percent(row.ctr) },
			{ key: "spend", title: "Spend", number: true, text: (row) => format.money(row.spend, row.currency), value: (row) => Number(row.spend) },
		],
	});
	const top_panel = panel("Busiest campaigns", "last minutes", top.node);

	root.append(h("div.grid",
		h("div.span-8", hero), h("div.span-4", port_panel),
		h("div.span-3", ack_figure.node), h("div.span-3", drops_figure.node), h("div.span-3", disk_figure.node), h("div.span-3", lag_figure.node),
		h("div.span-7.column", panel("Cores", "", cores.node), panel("Where every event went", "", fate_bar, fate.node), top_panel),
		h("div.span-5.column", panel("Rings", "between receive and shard cores", rings.node), panel("Layers", "packets to batches", layers.node, path, connections),
			panel("Turned away, by reason", "", refusals.node))));

	/* The busiest names of the samples, the others put together: a chart of forty lines says nothing. */
	function series_of(kind, colours, most, text_of) {
		const sums = new Map();
		for (const sample of stream.samples)
			for (const [name, rate] of Object.entries(sample[kind]))
				sums.set(name, (sums.get(name) ?? 0) + rate);
		const names = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a));
		const kept = names.length > most ? names.slice(0, most - 1) : names, others = names.slice(kept.length);
		return { kept: kept.sort(), others, series: [...kept.map((name, i) => ({ key: name, name: text_of(name), colour: colours[i], kind: "area", stack: true, format: format.rate })),
			...(others.length ? [{ key: "others", name: `${others.length} others`, colour: "grey", kind: "area", stack: true, format: format.rate }] : [])] };
	}

	function show_kind(chart, kind, colours, most, text_of, from, to) {
		const { kept, others, series } = series_of(kind, colours, most, text_of);
		const key = JSON.stringify(series.map((one) => one.key));
		if (chart.of !== key) {
			chart.of = key;
			chart.set_series(series);
		}
		chart.show(stream.samples.map((sample) => [sample.time, ...kept.map((name) => (sample.clicks === null ? null : sample[kind][name] ?? 0)),
			...(others.length ? [sample.clicks === null ? null : others.reduce((sum, name) => sum + (sample[kind][name] ?? 0), 0)] : [])]), from, to, refused.bands());
	}

	function show_charts() {
		const { samples } = stream, to = samples.length ? samples.at(-1).time : Date.now();
		/* a young history fills the width, from one minute on */
		const from = Math.min(to - SPAN_MIN_MS, Math.max(to - shown_ms, samples[0]?.time ?? 0));
		const points = (...names) => samples.map((sample) => [sample.time, ...names.map((name) => sample[name])]);
		events.show(points("impressions", "clicks", "flagged", "conversions"), from, to, refused.bands());
		ack.show(points("p99", "p50"), from, to, refused.bands());
		written.show(points("log"), from, to, refused.bands());
		lag.show(points("lag"), from, to, refused.bands());
		const ports = new Set(samples.flatMap((sample) => Object.keys(sample.ways).map((name) => split(name)[0])));
		show_kind(by_port, "ways", way_colours, way_colours.length, (name) => {
			const [port, way] = split(name);
			return ports.size > 1 ? `${port} · ${way_names[way]}` : way_names[way] ?? way;
		}, from, to);
		show_kind(drops, "refused", reason_colours, REASONS_MAX, (name) => {
			const [layer, reason] = split(name);
			return layer === "requests" ? `HTTP ${reason}` : `${format.words(reason)}`;
		}, from, to);
	}

	function show_now() {
		const message = stream.last;
		if (!message)
			return;
		const { per_second: now } = message;
		say(total, format.rate(now.received));
		say(total_note, now.duplicates ? `${format.rate(now.duplicates)} of them duplicates` : "");
		ack_figure.show(message.ack.p99_ms === null ? "–" : format.latency(message.ack.p99_ms), message.ack.p99_ms === null ? "" : "p99");
		const away = message.refusals.reduce((sum, one) => sum + (one.per_second ?? 0), 0);
		drops_figure.show(now.received === null ? "–" : format.rate(Number(away.toFixed(1))), "per second");
		drops_figure.node.classList.toggle("alarm", away > 0);
		const free = message.total_bytes ? message.free_bytes / message.total_bytes : null;
		disk_figure.show(free === null ? "–" : format.bytes(message.free_bytes), free === null ? "" : "free");
		disk.show(free === null ? 0 : 1 - free, format.percent(free === null ? null : 1 - free), free === null ? "" : free < 0.05 ? "bad" : free < 0.15 ? "warn" : "");
		say(disk_text, free === null ? "" : `${format.percent(1 - free)} of ${format.bytes(message.total_bytes)} used · ${format.count(message.log?.segments_sealed ?? 0)} segments sealed`);
		lag_figure.show(message.watermark_lag_ms === null ? "–" : format.span(message.watermark_lag_ms), "");
		const fill = message.ids_max ? message.ids / message.ids_max : 0;
		ids.show(fill, format.percent(fill), fill > 0.9 ? "warn" : "");
		say(ids_text, message.ids_max ? `${format.rate(message.ids)} ids remembered, room for ${format.rate(message.ids_max)}` : "");
		cores.show(message.cores);
		rings.show((message.shards ?? []).map((shard, number) => ({ number, ...shard, fill: shard.ring_bytes ? shard.ring_used_bytes / shard.ring_bytes : 0 })));
		const names = { xdp: "XDP", frames: "Frames", datagrams: "Datagrams", requests: "HTTP requests", batches: "UDP batches" };
		layers.show(Object.entries(message.layers ?? {}).filter(([name, layer]) => layer.received.total || !["xdp", "frames"].includes(name)).map(([name, layer]) => ({ name, title: names[name] ?? name, ...layer })));
		say(path, message.receive_path ? `Path: ${message.receive_path}` : "");
		say(connections, message.connections ? `${format.count(message.connections.open)} connections open, ${format.rate(message.connections.opened_per_second)} new per second` : "");
		const all = message.totals.received;
		fate.show(fates.map(([key, name]) => ({ key, name, total: message.totals[key], share: key === "received" || !all ? null : message.totals[key] / all, rate: message.per_second[key] })));
		fate_bar.replaceChildren(...fates.slice(1).filter(([key]) => message.totals[key]).map(([key, name]) => {
			const part = h(`i.of-${key}`, { title: `${name}: ${format.count(message.totals[key])}` });
			part.style.flexGrow = String(message.totals[key]);
			return part;
		}));
		refusals.show(message.refusals);
		top.show(message.top);
		say(top_panel.querySelector("small"), `last ${message.top_minutes} minutes`);
	}

	const hush = [stream.hear((what) => {
		if (what !== "lost")
			show_now();
		show_charts();
	}), refused.hear(show_charts)];
	return {
		update(query) {
			const chosen = span_ms[query.span] ? query.span : "10m";
			shown_ms = span_ms[chosen];
			span.show(chosen);
			show_now();
			show_charts();
		},
		close() {
			hush.forEach((stop) => stop());
			charts.forEach((chart) => chart.close());
		},
	};
}
