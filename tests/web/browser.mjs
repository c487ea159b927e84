// Opens one page in a real browser and evaluates what is asked in it: `node browser.mjs EXECUTABLE URL [FLAG of the browser]...`. Each line of stdin is {"id", "js"}, or
// {"id", "method", "params"} for the browser's own protocol (CDP), or {"id", "url"} to go there; each line of stdout answers {"id", "value"} or {"id", "error"}. The first one, of id 0, says that the page is there. The browser ends with stdin.
import { chromium } from "playwright-core";
import { createInterface } from "node:readline";

const [executablePath, url, ...more] = process.argv.slice(2);
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", ...more],
});
const page = await browser.newPage();
page.on("console", (message) => process.stderr.write(message.text() + "\n"));
page.on("pageerror", (error) => process.stderr.write(error + "\n"));
const protocol = await page.context().newCDPSession(page);
await page.goto(url);
say({ id: 0, value: browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, js, method, params, url } = JSON.parse(line);
  try {
    if (url) await page.goto(url);
    const value = js ? await page.evaluate(js) : method ? await protocol.send(method, params) : null;
    say({ id, value: value ?? null });
  } catch (error) {
    say({ id, error: String(error) });
  }
}
await browser.close();
