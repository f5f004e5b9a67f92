/** Strangers whose certificates cost much to verify: the API's other clients, by TLS and on its socket, do not wait. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { request as tlsRequest } from "node:https";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import { loadConfig } from "../../src/common/config/load.ts";
import { startFrontend } from "../../src/frontend/main.ts";
import { makeCertificates } from "../support/certificates.ts";
import { junkChain } from "../support/junk-chain.ts";
import { scratchDirectory } from "../support/scratch.ts";

const strangers = 64;
/** Requests of each kind, which a server that looks at each chain would answer in minutes. */
const asked = 20;

const flood = `
const { connect } = require("node:tls");
const { parentPort, workerData: { strangers, ...options } } = require("node:worker_threads");
let ended = 0;
const come = () => connect({ ...options, host: "127.0.0.1", rejectUnauthorized: false })
  .on("error", () => {})
  .on("close", () => { if (++ended === strangers) parentPort.postMessage("refused"); setTimeout(come, 10); })
  .resume();
for (let n = 0; n < strangers; n++) come();
parentPort.postMessage("begun");
`;

test("strangers with certificates that cost much keep nobody waiting", { timeout: 55_000 }, async (t) => {
  const directory = scratchDirectory();
  const { server, client } = await makeCertificates(directory);
  const socketPath = join(directory, "docker.sock");
  const flags = {
    hosts: ["tcp://127.0.0.1:0", `unix://${socketPath}`],
    backend_address: `unix://${join(directory, "backend.sock")}`,
    log_level: "silent",
    tlscacert: server.ca,
    tlscert: server.cert,
    tlskey: server.key,
  };
  const frontend = await startFrontend(
    loadConfig({ command: "frontend", environment: {}, uid: 0, flags }).config,
  );
  t.after(() => frontend.close());
  const port = Number(new URL(frontend.addresses?.[0] ?? "").port);
  const worker = new Worker(flood, { eval: true, workerData: { port, strangers, ...junkChain() } });
  t.after(() => worker.terminate());
  const refused = new Promise<void>((resolve) => {
    worker.on("message", (said) => {
      if (said === "refused") {
        resolve();
      }
    });
  });
  await once(worker, "message");
  const [ca, cert, key] = await Promise.all(
    [client.ca, client.cert, client.key].map((path) => readFile(path)),
  );
  for (let n = 0; n < asked; n++) {
    const options = { path: "/_ping", agent: false };
    const both = [
      tlsRequest({ ...options, host: "127.0.0.1", port, ca, cert, key }),
      request({ ...options, socketPath }),
    ];
    for (const each of both) {
      const [answer] = await once(each.end(), "response");
      answer.resume();
      assert.equal(answer.statusCode, 503); // There is no backend.
    }
  }
  await refused;
});
