import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const child = fileURLToPath(new URL("child.js", import.meta.url));
const moduleOf = (source: string): string => `data:text/javascript,${encodeURIComponent(source)}`;

/** Half a minute is over at once. */
const hurried = moduleOf(`
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (call, ms, ...args) => setTimeout(call, ms >= 20_000 ? 50 : ms, ...args);
`);

for (const phase of ["start", "close"] as const) {
  test(`a process that lost its supervisor ends, though its service is held up (${phase})`, async () => {
    const never = "new Promise(() => setInterval(() => {}, 1000))";
    const service = moduleOf(`
      export async function serve() {
        console.log("starts");
        await ${phase === "start" ? never : "undefined"};
        return { close: () => ${never} };
      }
    `);
    const process = fork(child, ["backend", service, "serve"], {
      execArgv: ["--import", hurried],
      silent: true,
    });
    const [errors, exited] = [text(process.stderr ?? assert.fail()), once(process, "exit")];
    process.send({ type: "serve", config: { logLevel: "error" } });
    await once(process.stdout ?? assert.fail(), "data");
    process.disconnect();
    assert.deepEqual(await exited, [1, null]);
    assert.match(await errors, /not closed in time, ending anyway/);
  });
}
