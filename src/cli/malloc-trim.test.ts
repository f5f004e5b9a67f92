/** Memory that the C library keeps between what is in use. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";

const module = new URL("./malloc-trim.js", import.meta.url).href;

test("what malloc has free between what is in use is given back", async () => {
  const script = `
    import { mallocTrim } from ${JSON.stringify(module)};
    const trim = mallocTrim();
    let freed = Array.from({ length: 2_000 }, () => Buffer.alloc(64 * 1024, 1));
    globalThis.last = Buffer.alloc(64 * 1024, 1);
    freed = undefined;
    gc({ type: "major", execution: "sync", flavor: "last-resort" });
    const before = process.memoryUsage.rss();
    trim();
    console.log(Math.round((before - process.memoryUsage.rss()) / 1024 / 1024));`;
  const switches = ["--expose-gc", "--disable-warning=ExperimentalWarning", "--input-type=module"];
  const child = spawn(process.execPath, [...switches, "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [given, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  assert.equal(code, 0);
  assert.ok(Number(given) > 100, `${given} MiB of 125`);
});
