/*
 * The dashboard's frame: which view is shown, who is looking, the node's state, time zone, theme, keyboard. The views are modules with
 * mount(root, page), which returns update(query, id) and close().
 */
import { Problem, ask } from "./api.js";
import * as billing from "./billing.js";
import * as blocklist from "./blocklist.js";
import * as campaigns from "./campaigns.js";
import { colours_changed } from "./chart.js";
import { blank, h, say } from "./dom.js";
import * as format from "./format.js";
import * as fraud from "./fraud.js";
import * as letters from "./letters.js";
import * as node from "./node.js";
import * as place from "./place.js";
import * as refused from "./refused.js";
import * as stream from "./stream.js";

const $ = (id) => document.getElementById(id);
const views = { node, campaigns, fraud, billing, blocklist, letters };
/* Who may see what; the server decides, this only leaves out what it would refuse. */
const reach = { node: ["admin", "read"], letters: ["admin", "read"], blocklist: ["admin"], campaigns: ["admin", "read", "own"], fraud: ["admin", "read", "own"], billing: ["admin", "read", "own"] };

const page = {
	who: { scope: "admin", advertiser: null, by: "none" },
	problem(problem) {
		const again = h("button", { type: "button", onclick: () => show_view() }, "Try again");
		if (problem.status === 422)
			return blank(problem.title, problem.message, h("button", { type: "button", onclick: () => place.change({ range: "1h", from: "", to: "" }) }, "Show the last hour"));
		if (problem.status === 401)
			return blank(problem.title, "Your session is over, or its token was revoked.", h("a.button", { href: "./" }, "Log in"));
		return blank(problem.title, problem.message, problem.status === 403 ? null : again);
	},
};

let shown = null; /* {name, view} */

/* ---- state and banners ---- */

const state_words = {
	taking: "taking beacons", starting: "starting", no_space: "no space", stopping: "stopping", gone: "not running",
	absent: "never seen", stalled: "not responding", lost: "connection lost", waiting: "connecting",
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

function show_state() {
	const state = stream.state(), said = state_banners[state], message = stream.last;
	$("state").hidden = state === "off";
	$("state").dataset.state = state;
	say($("state-text"), state_words[state] ?? state);
	$("banner").hidden = !said;
	$("banner").classList.toggle("bad", said?.[0] === "bad");
	say($("banner"), said ? said[1] : "");
	document.body.classList.toggle("stale", state === "lost" || state === "gone");
	if (!message) {
		say($("age"), state === "waiting" ? "Waiting for the first message" : "");
		return;
	}
	say($("node-name"), message.node);
	const age = stream.age_ms();
	say($("age"), `Updated ${age < 2000 ? "now" : `${format.span(age)} ago`} · ${format.time(message.time_ms, true)} ${format.zone_text()}`);
	say($("about"), [message.http && `http ${message.http}`, message.udp && `udp ${message.udp}`, message.connected && `up ${format.span(message.time_ms - message.started_ms)}`].filter(Boolean).join(" · "));
	document.title = `${format.rate(message.per_second.received)}/s · ${views[shown?.name]?.title ?? "Turnpike"} · ${message.node || "Turnpike"}`;
}

/* ---- views ---- */

function scope_of() {
	return page.who.advertiser ? "own" : page.who.scope;
}
const allowed = () => Object.keys(views).filter((name) => reach[name].includes(scope_of()));

function show_view() {
	const here = place.read(), may = allowed(), name = may.includes(here.view) ? here.view : "";
	if (!name) {
		history.replaceState(null, "", place.write({ view: may[0] ?? "campaigns", id: "", query: here.query }));
		if (may.length)
			show_view();
		return;
	}
	set_zone(here.query.tz ?? localStorage.getItem("tz") ?? "local");
	const first = shown?.name !== name;
	if (first) {
		shown?.view.close();
		$("view").replaceChildren();
		$("view").dataset.view = name;
		say($("title"), views[name].title);
		shown = { name, view: views[name].mount($("view"), page) };
		document.title = `${views[name].title} · Turnpike`;
		window.scrollTo(0, 0);
	}
	for (const tab of document.querySelectorAll("#tabs a")) {
		tab.href = place.link(tab.dataset.view);
		if (tab.dataset.view === name)
			tab.setAttribute("aria-current", "page");
		else
			tab.removeAttribute("aria-current");
	}
	shown.view.update(here.query, here.id);
	show_state();
}

window.addEventListener("hashchange", show_view);
window.addEventListener("popstate", () => location.hash && show_view());

/* ---- time zone and theme ---- */

function set_zone(zone) {
	format.set_local(zone !== "utc");
	say($("zone-text"), zone === "utc" ? "UTC" : format.zone_text());
	$("zone").title = zone === "utc" ? "Times are in UTC: show them in your zone" : `Times are in your zone, ${format.zone()}: show them in UTC`;
}

function switch_zone() {
	const tz = (place.read().query.tz ?? localStorage.getItem("tz") ?? "local") === "utc" ? "local" : "utc";
	localStorage.setItem("tz", tz);
	place.change({ tz: tz === "utc" ? "utc" : "" }, true);
	/* without a word in the fragment nothing changed there */
	show_view();
	colours_changed();
}

const light = window.matchMedia("(prefers-color-scheme: light)");
function set_theme(theme) {
	document.documentElement.dataset.theme = theme;
	$("theme").setAttribute("aria-label", theme === "light" ? "Switch to dark" : "Switch to light");
	colours_changed();
}
function switch_theme() {
	const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
	localStorage.setItem("theme", theme);
	set_theme(theme);
}
light.addEventListener("change", () => localStorage.getItem("theme") ?? set_theme(light.matches ? "light" : "dark"));

/* ---- keyboard ---- */

const shortcuts = [
	["1 … 6", "go to a view"], ["/", "search in this view"], ["[  ]", "shorter or longer range"], ["z", "UTC or your time zone"],
	["d", "dark or light"], ["?", "this list"], ["← →", "in a chart: read moment by moment"], ["Esc", "leave"],
];

function on_key(event) {
	if (event.ctrlKey || event.metaKey || event.altKey || $("help").open)
		return;
	const target = event.target;
	if (target.matches?.("input, select, textarea")) {
		if (event.key === "Escape")
			target.blur();
		return;
	}
	const number = Number(event.key), may = allowed();
	if (number >= 1 && number <= may.length) {
		location.hash = place.link(may[number - 1]);
	} else if (event.key === "/") {
		const search = document.querySelector("[data-search]:not(:disabled)");
		if (!search)
			return;
		event.preventDefault();
		search.focus();
		search.select();
	} else if (event.key === "[" || event.key === "]") {
		const pressed = [...document.querySelectorAll(".ranges .choices button, .hero .choices button")], now = pressed.findIndex((button) => button.getAttribute("aria-pressed") === "true");
		pressed[Math.min(pressed.length - 1, Math.max(0, now + (event.key === "]" ? 1 : -1)))]?.click();
	} else if (event.key === "z") {
		switch_zone();
	} else if (event.key === "d") {
		switch_theme();
	} else if (event.key === "?") {
		$("help").showModal();
	}
}

/* ---- start ---- */

async function who() {
	try {
		const said = await ask("api/v1/whoami");
		page.who = { ...said, scope: said.scope?.startsWith("read:") ? "own" : said.scope };
	} catch (problem) {
		if (!(problem instanceof Problem))
			throw problem;
		/* an older control process does not say: all is shown, and it refuses what it must */
	}
	for (const tab of document.querySelectorAll("#tabs li"))
		tab.hidden = !reach[tab.firstElementChild.dataset.view].includes(scope_of());
	document.querySelector("footer a[href=metrics]").hidden = scope_of() === "own";
	$("signed").hidden = page.who.by !== "cookie";
	say($("who"), page.who.advertiser ?? page.who.name ?? page.who.scope ?? "");
	if (page.who.advertiser)
		say($("node-name"), page.who.advertiser);
}

async function sign_out() {
	try {
		await ask("logout", {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
	} finally {
		location.replace("./");
	}
}

set_theme(localStorage.getItem("theme") ?? (light.matches ? "light" : "dark"));
$("theme").addEventListener("click", switch_theme);
$("zone").addEventListener("click", switch_zone);
$("keys").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());
$("help").addEventListener("click", (event) => event.target === $("help") && $("help").close());
$("sign-out").addEventListener("click", sign_out);
$("skip").addEventListener("click", (event) => {
	event.preventDefault(); /* the fragment is the view's */
	$("main").focus();
});
$("shortcuts").append(...shortcuts.map(([key, what]) => h("div", h("dt", key.split(/ (?=[…])|(?<=…) | {2}| (?=→)/).map((one) => (one === "…" ? "…" : h("kbd", one)))), h("dd", what))));
document.addEventListener("keydown", on_key);

await who();
if (scope_of() !== "own") {
	stream.hear(show_state);
	stream.start();
	setInterval(show_state, 1000);
}
refused.start();
show_view();
document.body.classList.remove("waiting");
