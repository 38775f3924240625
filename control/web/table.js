/*
 * A table that a person can read and sort: tabular figures, the order in the header as a button (WAI-ARIA's sortable table), rows that
 * keep their elements while figures change.
 *
 * columns: [{key, title, text(row) | cell(row), value(row), number, sort: false, title_of, class}]; `value` is what is sorted by.
 */
import { h, say } from "./dom.js";

export class Table {
	constructor({ label, columns, key, order = null, empty, limit = 500, onrow = null, onorder = null }) {
		Object.assign(this, { columns, key, empty, limit, onrow, onorder });
		this.order = order; /* {key, down} */
		this.rows = [];
		this.lines = new Map();
		this.heads = columns.map((column) => this.head(column));
		this.body = h("tbody");
		this.table = h("table", { "aria-label": label }, h("thead", h("tr", this.heads)), this.body);
		this.none = h("div.none", { hidden: true });
		this.scroll = h("div.scroll", this.table);
		this.node = h("div.tabled", this.scroll, this.none);
		/* what can be scrolled can be reached by the keyboard; what cannot is no stop on the way */
		new ResizeObserver(() => this.reach(label)).observe(this.scroll);
		new ResizeObserver(() => this.reach(label)).observe(this.table);
	}

	reach(label) {
		const over = this.scroll.scrollWidth > this.scroll.clientWidth + 1;
		for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", `${label}, to be scrolled`]])
			if (over)
				this.scroll.setAttribute(name, value);
			else
				this.scroll.removeAttribute(name);
	}

	head(column) {
		const name = column.number ? "n" : "";
		if (column.sort === false)
			return h("th", { scope: "col", class: `${name} ${column.class ?? ""}` }, column.title || h("span.unseen", column.name ?? "actions"));
		return h("th", { scope: "col", class: `${name} ${column.class ?? ""}`, "data-key": column.key },
			h("button.sort", { type: "button", onclick: () => this.sort_by(column) }, column.title, h("span.arrow", { "aria-hidden": "true" })));
	}

	sort_by(column) {
		const same = this.order?.key === column.key;
		this.order = { key: column.key, down: same ? !this.order.down : Boolean(column.number) };
		if (this.onorder)
			this.onorder(this.order);
		this.show(this.rows);
	}

	sorted(rows) {
		const column = this.order && this.columns.find((one) => one.key === this.order.key);
		if (!column)
			return rows;
		const value = column.value ?? ((row) => row[column.key]), turn = this.order.down ? -1 : 1;
		return [...rows].sort((a, b) => {
			const x = value(a), y = value(b);
			if (x === y || (x == null && y == null))
				return 0;
			if (x == null || y == null)
				return x == null ? 1 : -1; /* what is not known comes last either way */
			return (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x < y ? -1 : 1) * turn;
		});
	}

	line(row) {
		const line = h("tr"), cells = this.columns.map((column) => h("td", { class: `${column.number ? "n" : ""} ${column.class ?? ""}` }));
		line.append(...cells);
		if (this.onrow) {
			line.classList.add("picks");
			line.addEventListener("click", (event) => event.target.closest("a, button, input, summary") || this.onrow(line.row));
		}
		line.cells_of = cells;
		line.row = row;
		return line;
	}

	show(rows) {
		this.rows = rows;
		this.heads.forEach((head, i) => {
			const column = this.columns[i];
			if (column.sort === false)
				return;
			if (this.order?.key === column.key)
				head.setAttribute("aria-sort", this.order.down ? "descending" : "ascending");
			else
				head.removeAttribute("aria-sort");
		});
		const shown = this.sorted(rows).slice(0, this.limit), seen = new Set();
		let before = null;
		for (const row of shown) {
			const key = String(this.key(row));
			let line = this.lines.get(key);
			if (!line || seen.has(key))
				this.lines.set(key, line = this.line(row));
			seen.add(key);
			line.row = row;
			this.fill(line, row);
			const next = before ? before.nextSibling : this.body.firstChild;
			if (next !== line)
				this.body.insertBefore(line, next);
			before = line;
		}
		while (before ? before.nextSibling : this.body.firstChild)
			(before ? before.nextSibling : this.body.firstChild).remove();
		for (const key of this.lines.keys())
			if (!seen.has(key))
				this.lines.delete(key);
		this.scroll.hidden = shown.length === 0;
		this.none.hidden = shown.length !== 0;
		if (!shown.length)
			this.none.replaceChildren(typeof this.empty === "function" ? this.empty() : this.empty ?? "");
	}

	fill(line, row) {
		this.columns.forEach((column, i) => {
			const cell = line.cells_of[i];
			if (column.cell) {
				/* elements are made anew only when what they show differs, so that a focused one stays */
				const mark = JSON.stringify(column.mark ? column.mark(row) : row);
				if (cell.mark === mark)
					return;
				cell.mark = mark;
				cell.replaceChildren(column.cell(row) ?? "");
				return;
			}
			const text = column.text ? column.text(row) : String(row[column.key] ?? "");
			say(cell, text);
			cell.classList.toggle("zero", Boolean(column.number) && !column.plain && (text === "0" || text === "–" || text === "0.0" || text === "0.00%"));
			if (column.hot)
				cell.classList.toggle("hot", Boolean(column.hot(row)));
			if (column.hint)
				cell.title = column.hint(row) ?? "";
		});
	}

	/* A problem where the rows would be. */
	fail(node) {
		this.body.replaceChildren();
		this.lines.clear();
		this.scroll.hidden = true;
		this.none.hidden = false;
		this.none.replaceChildren(node);
	}
}
