/* Elements without markup in strings: text goes in as text, for a campaign may be called anything. */

const SVG = "http://www.w3.org/2000/svg";

/* h("a.link", {href: "#x", onclick: f}, "text", child, [more]); null and false children are left out. */
export function h(kind, ...rest) {
	const [name, ...classes] = kind.split(".");
	const node = document.createElement(name || "div");
	if (classes.length)
		node.className = classes.join(" ");
	const first = rest[0];
	if (first && typeof first === "object" && !(first instanceof Node) && !Array.isArray(first)) {
		rest.shift();
		for (const [key, value] of Object.entries(first)) {
			if (value === null || value === undefined || value === false)
				continue;
			if (key.startsWith("on"))
				node.addEventListener(key.slice(2), value);
			else if (key === "value" || key === "checked" || key === "hidden")
				node[key] = value;
			else
				node.setAttribute(key, value === true ? "" : value);
		}
	}
	add(node, rest);
	return node;
}

function add(node, children) {
	for (const child of children) {
		if (Array.isArray(child))
			add(node, child);
		else if (child !== null && child !== undefined && child !== false)
			node.append(child);
	}
}

/* One of the symbols of index.html. */
export function icon(name) {
	const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
	svg.setAttribute("class", "icon");
	svg.setAttribute("aria-hidden", "true");
	use.setAttribute("href", `#i-${name}`);
	svg.append(use);
	return svg;
}

/* Only what differs is written, so that a figure that stands still costs no layout. */
export function say(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
	return node;
}

/* A bar between 0 and 1; "warn" and "bad" colour it. */
export function meter(label) {
	const bar = h("i"), node = h("div.meter", { role: "img", "aria-label": label }, bar);
	return {
		node,
		show(share, text, tone = "") {
			bar.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
			node.className = `meter ${tone}`;
			node.setAttribute("aria-label", `${label}: ${text}`);
		},
	};
}

/* What a panel says when it has nothing to show: why, and what to do about it. */
export function blank(title, text, ...actions) {
	return h("div.blank", h("strong", title), text && h("p", text), actions.length > 0 && h("p.actions", actions));
}

/* A group of exclusive choices, as toggle buttons. choose(value) is called on a change. */
export function choices(label, list, choose) {
	const buttons = list.map(([value, text, title]) => h("button", {
		type: "button", "data-value": value, "aria-pressed": "false", title, onclick: () => choose(value) }, text));
	return {
		node: h("div.choices", { role: "group", "aria-label": label }, buttons),
		show(value) {
			for (const button of buttons)
				button.setAttribute("aria-pressed", String(button.dataset.value === value));
		},
	};
}

export function panel(title, note, ...children) {
	const id = `p-${panel.next = (panel.next ?? 0) + 1}`;
	return h("section.panel", { "aria-labelledby": id }, h("div.title", h("h2", { id }, title, note && " ", note && h("small", note))), children);
}
