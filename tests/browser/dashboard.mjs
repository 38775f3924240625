/*
 * Drives the dashboard in Chromium, for tests/integration/dashboard_test.py:
 *
 *   node dashboard.mjs MODULES URL SHOTS PART      PART: views | restart | advertiser
 *
 * What needs the outside (a restart) is asked for with a line "want WORD" on standard output and answered by a line on standard input.
 * It ends with 0 when all checks held; each failed one is a line "FAIL …". Screenshots go to SHOTS, to be looked at.
 */
import { createRequire } from "node:module";
import fs from "node:fs";
import readline from "node:readline";

const [,, modules, url, shots, part, secret = ""] = process.argv;
const require = createRequire(`${modules}/package.json`);
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const executablePath = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"].find((path) => fs.existsSync(path));
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const WAIT_MS = 90000;

let failed = 0, checked = 0;
function check(what, holds, found = "") {
	checked++;
	if (holds)
		return;
	failed++;
	console.log(`FAIL ${what}${found === "" ? "" : `: ${typeof found === "string" ? found : JSON.stringify(found)}`}`);
}
async function want(word) {
	console.log(`want ${word}`);
	const { value } = await lines.next();
	return value;
}
/* Polls; a bound against hanging, not an expectation about speed. */
async function until(what, read, holds) {
	const end = Date.now() + WAIT_MS;
	let found;
	do {
		found = await read();
		if (holds(found)) {
			check(what, true);
			return found;
		}
		await new Promise((done) => setTimeout(done, 100));
	} while (Date.now() < end);
	check(what, false, found);
	return found;
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
let quiet = false; /* while the control process is away on purpose */

async function open(options = {}) {
	const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "dark", timezoneId: "Asia/Kathmandu", ...options });
	const page = await context.newPage();
	const here = new URL(url).origin;
	page.setDefaultTimeout(WAIT_MS);
	page.on("console", (said) => ["error", "warning"].includes(said.type()) && !quiet && check("no console error", false, `${said.text()} ${said.location().url}`));
	page.on("pageerror", (error) => check("no script error", false, error.stack));
	page.on("request", (request) => check("no request elsewhere", request.url().startsWith(here) || request.url().startsWith("blob:"), request.url()));
	return page;
}

/* rules: all of them, or those named: what a theme changes is contrast alone */
async function accessible(page, name, ...rules) {
	/* evaluated by the driver, which the page's policy does not bind */
	if (!await page.evaluate(() => Boolean(window.axe)))
		await page.evaluate(axe);
	const { violations } = await page.evaluate((only) => window.axe.run(document, { resultTypes: ["violations"], ...(only.length && { runOnly: only }) }), rules);
	for (const one of violations)
		check(`accessible: ${name}`, false, `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
	checked++;
}

/* Charts follow a new width with the next frame. */
async function fits(page, name) {
	await until(`nothing sticks out: ${name}`, () => page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]), ([wide, room]) => wide <= room);
}

const shoot = (page, name, fullPage = true) => page.screenshot({ path: `${shots}/${name}.png`, fullPage });
const text = (page, selector) => page.locator(selector).first().textContent();
const number = async (page, selector) => Number((await text(page, selector)).replace(/[^\d.]/g, ""));
const cell = (page, table, row, column) => page.evaluate(([label, at, key]) => {
	const found = document.querySelector(`table[aria-label="${label}"]`), heads = [...found?.tHead.rows[0].cells ?? []];
	return found?.tBodies[0].rows[at]?.cells[heads.findIndex((head) => head.textContent.replace(/[↑↓]/g, "") === key)]?.textContent ?? "";
}, [table, row, column]);
const rows = (page, label) => page.locator(`table[aria-label="${label}"] tbody tr`).count();
const plain = (said) => Number(String(said).replace(/[^\d.]/g, ""));

/* What has to be there before a view is looked at. */
const ready = {
	node: (page) => until("node: cores have reported", () => rows(page, "Cores"), (count) => count > 0),
	campaigns: (page) => until("campaigns: the busiest are listed", () => rows(page, "Campaigns"), (count) => count > 2),
	"campaigns/camp_0001": (page) => until("a campaign: its ads are listed", () => rows(page, "Break-down"), (count) => count > 0),
	fraud: (page) => until("fraud: flagged clicks are listed", () => rows(page, "Flagged clicks"), (count) => count > 3),
	"billing?advertiser=adv_000": (page) => until("billing: reports are listed", () => rows(page, "Reports"), (count) => count > 0),
	blocklist: (page) => until("blocklist: it is told", async () => await page.locator(".blank").count() + await rows(page, "Blocklist"), (count) => count > 0),
	letters: (page) => until("dead letters: they are listed", () => rows(page, "Dead letters"), (count) => count > 0),
};

/* ---- each view, dark and light, wide and narrow ---- */

async function views() {
	const page = await open();
	for (const [view, wait] of Object.entries(ready)) {
		const name = view.replace(/\W+/g, "-");
		await page.setViewportSize({ width: 1440, height: 900 });
		await page.goto(`${url}/#${view}`);
		await wait(page);
		await page.mouse.move(900, 330); /* a reading in the chart */
		await page.waitForTimeout(150);
		await accessible(page, `${view}, dark`);
		await fits(page, view);
		await shoot(page, `${name}-dark`);
		await page.keyboard.press("d");
		check(`${view}: d switches the theme`, await page.evaluate(() => document.documentElement.dataset.theme) === "light");
		await accessible(page, `${view}, light`, "color-contrast");
		await shoot(page, `${name}-light`, false);
		await page.setViewportSize({ width: 390, height: 844 });
		await page.waitForTimeout(150);
		await fits(page, `${view}, phone`);
		await accessible(page, `${view}, phone`, "scrollable-region-focusable", "landmark-unique", "target-size", "label", "button-name", "link-name", "nested-interactive");
		await shoot(page, `${name}-phone-light`, false);
		await page.keyboard.press("d");
		await shoot(page, `${name}-phone-dark`);
	}
	await page.setViewportSize({ width: 1440, height: 900 });
	for (const step of [moves, keyboard, drills, judges, bills, blocks, fails]) {
		try {
			await step(page);
		} catch (error) {
			check(`${step.name} runs to its end`, false, error.stack);
		}
	}
	await page.context().close();
}

async function moves(page) {
	await page.goto(`${url}/#node`);
	await ready.node(page);
	const total = async () => plain(await cell(page, "Where every event went", 0, "Since start"));
	const before = await until("node: events have come", total, (count) => count > 0);
	await until("node: events go on coming", total, (count) => count > before);
	await until("node: the rate is shown", () => number(page, ".hero .big strong"), (rate) => rate > 0);
	await until("node: kinds are told apart", () => text(page, ".hero .legend button:has-text('Impressions') b"), (said) => plain(said) > 0);
	await until("node: ports are told apart", () => page.locator("section:has(h2:has-text('By port')) .legend li").count(), (count) => count >= 2);
	await until("node: the title tells the rate", () => page.title(), (said) => /^[\d.,]+\/s · Node · test$/.test(said));
	await until("node: the chart says in words what it shows", () => page.locator(".hero canvas").getAttribute("aria-label"), (label) => /Impressions: last [\d.,KM]+, most/.test(label));
}

async function keyboard(page) {
	await page.goto("about:blank");
	await page.goto(`${url}/#node`);
	await ready.node(page);
	await page.keyboard.press("Tab");
	check("keyboard: the first stop skips to the figures", await page.evaluate(() => document.activeElement.id) === "skip");
	await page.keyboard.press("Enter");
	check("keyboard: and does", await page.evaluate(() => document.activeElement.id) === "main");
	check("keyboard: without leaving the view", new URL(page.url()).hash === "#node", page.url());
	await page.keyboard.press("2");
	await until("keyboard: 2 goes to campaigns", () => page.url(), (now) => now.endsWith("#campaigns"));
	await page.locator("input[aria-label=Id]").waitFor(); /* the address changes before the view does */
	await page.keyboard.press("/");
	check("keyboard: / goes to the search", await page.evaluate(() => document.activeElement.ariaLabel) === "Id");
	await page.keyboard.type("1/?"); /* into the field, not shortcuts */
	check("keyboard: what is typed stays in the field", await page.locator("input[aria-label=Id]").inputValue() === "1/?");
	await page.keyboard.press("Escape");
	await page.keyboard.press("]");
	await until("keyboard: ] takes a longer range", () => page.url(), (now) => now.endsWith("?range=6h"));
	await page.keyboard.press("?");
	check("keyboard: ? lists the shortcuts", await page.locator("#help").evaluate((help) => help.open));
	await shoot(page, "help", false);
	await page.keyboard.press("Escape");
	check("keyboard: Escape leaves the list", !await page.locator("#help").evaluate((help) => help.open));
	/* zones: a viewer at UTC+5:45 */
	check("zone: the viewer's by default", await text(page, "#zone-text") === "UTC+5:45", await text(page, "#zone-text"));
	await page.keyboard.press("z");
	check("zone: UTC by choice, in the address too", await text(page, "#zone-text") === "UTC" && page.url().includes("tz=utc"), page.url());
	await page.reload();
	await page.locator("body:not(.waiting)").waitFor(); /* the page knows who asks, and has chosen the zone: before, it says UTC to everybody */
	check("zone: kept over a reload", await text(page, "#zone-text") === "UTC");
	await page.keyboard.press("z");
	await page.keyboard.press("1");
	await ready.node(page);
	await page.locator(".hero canvas").focus();
	await page.keyboard.press("End");
	await page.keyboard.press("ArrowLeft");
	await until("keyboard: a chart is read moment by moment", () => page.locator(".hero .tip").textContent(), (said) => /Impressions [\d.,]+/.test(said));
	const [clock] = /\d\d:\d\d:\d\d/.exec(await page.locator(".hero .tip").textContent()) ?? [];
	const minutes = new Date(Date.now() + 345 * 60000).toISOString().slice(11, 13);
	check("zone: the reading is in the viewer's", clock?.startsWith(minutes) || clock?.slice(3, 5) >= "58" || clock?.slice(3, 5) <= "01", clock);
	/* a series can be left out */
	const toggle = page.locator(".hero .legend button").first();
	await toggle.click();
	check("a series is switched off", await toggle.getAttribute("aria-pressed") === "false");
	await toggle.click();
}

async function drills(page) {
	await page.goto(`${url}/#campaigns`);
	await ready.campaigns(page);
	const sorted = async () => (await page.locator("table[aria-label=Campaigns] tbody tr td:nth-child(3)").allTextContents()).map(plain);
	await page.locator("table[aria-label=Campaigns] th button:has-text('Impressions')").click();
	const down = await sorted();
	check("a table sorts downwards", down.every((value, i) => i === 0 || down[i - 1] >= value), down.slice(0, 6));
	check("and says so", await page.locator("table[aria-label=Campaigns] th[aria-sort=descending]").textContent().then((said) => said.startsWith("Impressions")));
	await page.locator("table[aria-label=Campaigns] th button:has-text('Impressions')").click();
	const up = await sorted();
	check("and upwards", up.every((value, i) => i === 0 || up[i - 1] <= value), up.slice(0, 6));
	await page.locator("table[aria-label=Campaigns] a", { hasText: /^camp_0001$/ }).click();
	await ready["campaigns/camp_0001"](page);
	const clicks = async () => plain(await page.locator(".tile:has-text('Clicks') strong").textContent());
	const first = await clicks();
	await until("a campaign's figures rise under load", clicks, (now) => now > first);
	await page.locator(".choices button:has-text('Country')").click();
	await until("broken down by country", () => cell(page, "Break-down", 0, "Country"), (name) => /^[A-Z]{2}$/.test(name));
	/* figures go on coming, and rows may change places: this one is kept by its name */
	const country = await cell(page, "Break-down", 0, "Country"), row = page.locator("table[aria-label=Break-down] tbody tr", { has: page.getByRole("button", { name: country, exact: true }) });
	const of_country = plain(await row.locator("td").nth(3).textContent());
	await row.click();
	await until("a row leads further in", () => page.locator(".chips li").first().textContent(), (said) => said === `country: ${country}`);
	await until("the figures are the row's", clicks, (now) => now >= of_country && now < 5 * of_country + 50);
	check("on to another dimension", !(await page.locator(".choices button[aria-pressed=true]").allTextContents()).includes("Country"));
	const address = page.url();
	await page.reload();
	await until("a reload keeps view, range and filter", () => page.locator(".chips li").count(), (count) => count === 1);
	await ready["campaigns/camp_0001"](page);
	check("and the address", page.url() === address, page.url());
	await shoot(page, "campaign-drilled");
	await page.goBack();
	await until("back takes the filter off", () => page.locator(".chips li").count(), (count) => count === 0);
	await page.locator(".tile:has-text('CTR')").click();
	await until("a tile chooses the measure", () => page.url(), (now) => now.includes("show=ctr"));
	/* a drag in the chart is a range */
	const box = await page.locator(".chart canvas").first().boundingBox();
	await page.mouse.move(box.x + box.width * 0.4, box.y + 90);
	await page.mouse.down();
	await page.mouse.move(box.x + box.width * 0.9, box.y + 90, { steps: 4 });
	await page.mouse.up();
	await until("a drag in the chart chooses a range", () => page.url(), (now) => /from=\d+&to=\d+/.test(now) || /to=\d+&from=\d+/.test(now));
	/* an id that nobody has seen, and one that needs escapes; the old chart is drawn once more before its answer is there */
	await page.evaluate(() => addEventListener("hashchange", () => document.querySelector(".chart canvas").dispatchEvent(new PointerEvent("pointermove")), { once: true }));
	await page.goto(`${url}/#campaigns/${encodeURIComponent("no <b>such</b> / thing?")}`);
	await until("an unknown id is said to have nothing", () => page.locator(".blank strong").allTextContents(), (said) => said.includes("Nothing in this range"));
	check("and stays text", await page.locator("b:has-text('such')").count() === 0);
}

async function judges(page) {
	await page.goto(`${url}/#fraud`);
	await ready.fraud(page);
	check("fraud: the evidence is told", /\d/.test(await page.locator("table[aria-label='Flagged clicks'] .seen").first().textContent()));
	const all = await rows(page, "Flagged clicks");
	await until("fraud: reasons are counted", () => rows(page, "Clicks by reason"), (count) => count > 0);
	await page.locator("select[aria-label=Reason]").selectOption("device_velocity");
	await until("fraud: a filter is in the address", () => page.url(), (now) => now.includes("reason=device_velocity"));
	await until("fraud: only that reason", () => page.locator("table[aria-label='Flagged clicks'] tbody tr").allTextContents(), (list) => list.length > 0 && list.every((one) => one.includes("Device velocity")));
	await page.locator("input[aria-label=Campaign]").fill("no_such_campaign");
	await page.keyboard.press("Enter");
	await until("fraud: nothing found is said", () => page.locator(".blank strong").allTextContents(), (said) => said.length >= 1 && said.every((one) => one === "No flagged clicks"));
	check("fraud: there was a list", all > 0);
}

async function bills(page) {
	await page.goto(`${url}/#billing`);
	await until("billing: asks whose", () => page.locator(".blank strong").first().textContent(), (said) => said === "Whose bills?");
	await page.locator("input[aria-label=Advertiser]").fill("adv_000");
	await page.keyboard.press("Enter");
	await ready["billing?advertiser=adv_000"](page);
	check("billing: money is exact", /^[\d,]+\.\d{2,6} USD$/.test(await cell(page, "Reports", 0, "Spend")), await cell(page, "Reports", 0, "Spend"));
	check("billing: the state is told", ["open", "final"].includes(await cell(page, "Reports", 0, "State")));
	const [file] = await Promise.all([page.waitForEvent("download"), page.locator("a:has-text('CSV')").click()]);
	const csv = fs.readFileSync(await file.path(), "utf8");
	check("billing: the CSV has a header and rows", csv.startsWith("start,end,campaign_id,") && csv.trim().split(/\r?\n/).length > 1, csv.slice(0, 80));
	await page.locator("input[aria-label='Time zone of the bill']").fill("Asia/Kathmandu");
	await page.keyboard.press("Tab");
	await until("billing: days of another zone", () => page.locator("table[aria-label=Reports] td").first().getAttribute("title"), (said) => said?.includes("+05:45"));
	await page.locator(".choices button:has-text('Hours')").click();
	await until("billing: hours say their offset", () => cell(page, "Reports", 0, "Period"), (said) => said.endsWith("+05:45"));
	await page.locator("button:has-text('Count again now')").click();
	await until("billing: the raw segments are counted again", () => page.locator("table[aria-label='Raw segments against reports'] tbody tr, section:has-text('Reconciliation') .blank").count(), (count) => count > 0);
	await page.locator("input[aria-label='Time zone of the bill']").fill("Mars/Olympus");
	quiet = true; /* the browser notes the 400 itself */
	await page.keyboard.press("Tab");
	await until("billing: an unknown zone is explained", () => page.locator(".blank p").first().textContent(), (said) => said.includes("Mars/Olympus"));
	quiet = false;
}

async function blocks(page) {
	await page.goto(`${url}/#blocklist`);
	await ready.blocklist(page);
	await page.locator("input[aria-label='Address or prefix']").fill("192.0.2.77/24");
	await page.locator("input[aria-label=Reason]").fill("<i>scraper</i> & co");
	await page.locator("select[aria-label='How long']").selectOption("1h");
	await page.keyboard.press("Tab");
	await page.locator("button:has-text('Block')").last().click();
	await until("blocklist: an entry is in force", () => cell(page, "Blocklist", 0, "Prefix"), (said) => said === "192.0.2.0/24");
	check("blocklist: its reason is text", await cell(page, "Blocklist", 0, "Reason") === "<i>scraper</i> & co");
	await accessible(page, "blocklist with an entry");
	await shoot(page, "blocklist-entry");
	await page.locator("button[aria-label='Unblock 192.0.2.0/24']").click();
	check("blocklist: it asks once more", await rows(page, "Blocklist") === 1);
	await page.locator("button.danger:visible").click();
	await until("blocklist: it is let in again", () => rows(page, "Blocklist"), (count) => count === 0);
	quiet = true; /* the browser notes the 400 itself */
	await page.locator("input[aria-label='Address or prefix']").fill("300.1.2.3");
	await page.keyboard.press("Enter");
	await until("blocklist: a wrong prefix is explained", () => page.locator(".problem:visible").count(), (count) => count === 1);
	quiet = false;
}

/* Problems where the figures would be. */
async function fails(page) {
	quiet = true;
	await page.route("**/api/v1/analytics/**", (route) => route.fulfill({ status: 422, contentType: "application/problem+json", body: JSON.stringify({ type: "urn:turnpike:problem:too-much", detail: "that would read 9,000,000 rows: choose a shorter range" }) }));
	await page.goto(`${url}/#campaigns/camp_0001?range=30d`);
	await until("a refusal is explained, with the way out", () => page.locator(".blank:visible").first().textContent(), (said) => said.includes("shorter range") && said.includes("Show the last hour"));
	await accessible(page, "a refusal");
	await shoot(page, "refused");
	await page.unroute("**/api/v1/analytics/**");
	await page.locator("button:has-text('Show the last hour')").click();
	await ready["campaigns/camp_0001"](page);
	quiet = false;
}

/* ---- processes that go away and come back ---- */

async function restart() {
	const page = await open();
	await page.goto(`${url}/#node`);
	await ready.node(page);
	await page.evaluate(() => { window.same = true; });
	const total = async () => plain(await cell(page, "Where every event went", 0, "Since start"));
	const state = () => text(page, "#state-text");
	await until("node: taking beacons", state, (said) => said === "taking beacons");
	await until("there are figures to stay", total, (now) => now > 0);
	quiet = true;
	await want("control-down");
	await until("a lost connection is said", state, (said) => said === "connection lost");
	check("and explained", (await text(page, "#banner")).includes("Trying again"));
	const before = await total();
	check("the last figures stay", before > 0, before);
	await accessible(page, "connection lost");
	await shoot(page, "connection-lost");
	await want("control-up");
	await until("it reconnects by itself", state, (said) => said === "taking beacons");
	quiet = false;
	await until("figures move again", total, (now) => now > before);
	check("without a reload", await page.evaluate(() => window.same === true));
	await want("data-down");
	await until("a data process that is gone is said", state, (said) => said === "not running");
	await shoot(page, "not-running");
	await want("data-up");
	await until("and that it is back", state, (said) => said === "taking beacons");
	const label = () => page.locator(".hero canvas").getAttribute("aria-label");
	await until("the refusal is marked in the chart", label, (said) => /Beacons were refused in \d+ period/.test(said));
	await shoot(page, "refusal-marked");
	await page.goto(`${url}/#campaigns/camp_0001?range=15m`);
	await ready["campaigns/camp_0001"](page);
	await until("and in the charts of other views", () => page.locator(".chart canvas").first().getAttribute("aria-label"), (said) => /Beacons were refused/.test(said));
	await page.context().close();
}

/* ---- with tokens ---- */

async function advertiser() {
	const page = await open();
	quiet = true; /* a browser notes a 401 itself */
	await page.goto(`${url}/`);
	await page.locator("input[name=token]").fill(`${secret}x`);
	await page.locator("button[type=submit]").click();
	await until("a wrong token is refused", () => page.locator("[role=alert]").count(), (count) => count > 0);
	await accessible(page, "the login page");
	await shoot(page, "login", false);
	await page.locator("input[name=token]").fill(secret);
	await page.locator("button[type=submit]").click();
	quiet = false;
	await page.waitForSelector("#tabs a:visible");
	const tabs = await until("an advertiser sees its views", () => page.locator("#tabs a:visible").allTextContents(), (list) => list.length > 0 && list.length < 6);
	check("and no other", JSON.stringify(tabs) === JSON.stringify(["Campaigns", "Fraud", "Billing"]), tabs);
	await page.locator("#tabs a:has-text('Billing')").click();
	await until("its own bills, unasked", () => rows(page, "Reports"), (count) => count > 0);
	check("its id is fixed", await page.locator("input[aria-label=Advertiser]").isDisabled());
	await accessible(page, "an advertiser's bills");
	await shoot(page, "advertiser-billing");
	await page.goto(`${url}/#node`);
	await until("a view beyond its scope is not shown", () => page.locator("#view").getAttribute("data-view"), (view) => view !== "node");
	await page.locator("#sign-out").click();
	await until("it logs out", () => page.locator("input[name=token]").count(), (count) => count === 1);
	await page.context().close();
}

try {
	await { views, restart, advertiser }[part]();
} catch (error) {
	check("it runs to its end", false, error.stack);
} finally {
	await browser.close();
}
console.log(`${checked} checks, ${failed} failed`);
process.exit(failed ? 1 : 0);
