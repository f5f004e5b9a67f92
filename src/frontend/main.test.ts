import assert from "node:assert/strict";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { type Config, loadConfig, type TlsFiles } from "../common/config/load.ts";
import type { RunningService } from "../common/running-service.ts";
import { makeCertificates } from "../../test/support/certificates.ts";
import { callApi } from "../../test/support/call-api.ts";
import { packagesOf } from "../../test/support/imported-packages.ts";
import { startFrontend } from "./main.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

test("it loads no package that only some streams need", async () => {
  const packages = [...(await packagesOf(new URL("./main.js", import.meta.url)))];
  const names = packages.map((each) => /^(?:@[^/]+\/)?[^/]+/.exec(each)?.[0]);
  assert.deepEqual(
    new Set(names),
    new Set(["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node", "pino"]),
  );
});

test("the Docker socket is for its owner and group, answers 503 without a backend and is gone after close", async () => {
  const directory = scratchDirectory();
  const socket = join(directory, "docker.sock");
  const frontend = await startFrontend(configOf(directory, [`unix://${socket}`]));
  assert.equal((await stat(socket)).mode & 0o777, 0o660);
  for (const method of ["GET", "HEAD"]) {
    assert.equal((await callApi(socket, method, "/_ping")).status, 503);
  }
  const away = await callApi(socket, "GET", "/containers/json");
  assert.equal(away.status, 503);
  assert.match(away.text, /cannot connect to the sockerless backend/);
  await frontend.close();
  await assert.rejects(stat(socket), { code: "ENOENT" });
});

test("a second frontend on a served socket is refused, and the first goes on", async (t) => {
  const directory = scratchDirectory();
  const socket = join(directory, "docker.sock");
  closeAfter(t, await startFrontend(configOf(directory, [`unix://${socket}`])));
  await assert.rejects(startFrontend(configOf(directory, [`unix://${socket}`])), {
    message: `another process already serves the Docker API on unix://${socket}`,
  });
  assert.equal((await callApi(socket, "GET", "/_ping")).status, 503); // There is no backend.
});

test("a frontend that cannot have all its addresses has none", async () => {
  const directory = scratchDirectory();
  const file = join(directory, "file");
  await writeFile(file, "precious");
  const socket = join(directory, "docker.sock");
  await assert.rejects(startFrontend(configOf(directory, [`unix://${socket}`, `unix://${file}`])), {
    message: `${file} exists and is not a socket`,
  });
  assert.equal(await readFile(file, "utf8"), "precious");
  await assert.rejects(stat(socket), { code: "ENOENT" });
});

test("a socket that a killed process left behind is replaced", async (t) => {
  const directory = scratchDirectory();
  const socket = join(directory, "docker.sock");
  await leaveStaleSocket(socket);
  closeAfter(t, await startFrontend(configOf(directory, [`unix://${socket}`])));
  assert.equal((await callApi(socket, "GET", "/_ping")).status, 503); // There is no backend.
});

test("over TCP a client is served only with a certificate of the authority", async (t) => {
  const directory = scratchDirectory();
  const { server, client } = await makeCertificates(directory);
  const frontend = await startFrontend(configOf(directory, ["tcp://127.0.0.1:0"], server));
  closeAfter(t, frontend);
  const port = Number(/:(\d+)$/.exec(frontend.addresses?.[0] ?? "")?.[1]);
  assert.equal(await ping(port, client), 503); // There is no backend.
  await assert.rejects(ping(port, { ca: client.ca }), /certificate required|ECONNRESET|EPIPE/);
});

function closeAfter(t: TestContext, frontend: RunningService): void {
  t.after(() => frontend.close());
}

function configOf(directory: string, hosts: readonly string[], tls?: TlsFiles): Config {
  const flags = {
    hosts,
    backend_address: `unix://${join(directory, "backend.sock")}`,
    log_level: "silent",
    ...(tls === undefined ? {} : { tlscacert: tls.ca, tlscert: tls.cert, tlskey: tls.key }),
  };
  return loadConfig({ command: "frontend", environment: {}, uid: 0, flags }).config;
}

/** A socket file without a listener: closing would remove it, so it is renamed away and back. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await rename(path, `${path}.kept`);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await rename(`${path}.kept`, path);
}

async function ping(port: number, files: Partial<TlsFiles>): Promise<number | undefined> {
  const [ca, cert, key] = await Promise.all(
    [files.ca, files.cert, files.key].map((path) => (path === undefined ? undefined : readFile(path))),
  );
  return await new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port, path: "/_ping", agent: false, ca, cert, key });
    outgoing.on("error", reject);
    outgoing.on("response", (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    outgoing.end();
  });
}
