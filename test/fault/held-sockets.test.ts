/** kill -9 of what listens: clients that connect before it is started again wait and are answered. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { once } from "node:events";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { runCommand } from "../support/command.ts";
import { checkout, type Daemon } from "../support/daemon.ts";
import { build } from "../support/builds.ts";
import { callApi } from "../support/call-api.ts";
import { freePort } from "../support/free-port.ts";
import { type DaemonRole, findProcess, isAlive, processOf } from "../support/processes.ts";
import { inSoak } from "../support/soak.ts";
import { until } from "../support/until.ts";
import { startDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const resources = new AsyncDisposableStack();
let certificates: TestCertificates;
let daemon: Daemon;
let address: URL;

before(async () => {
  const directory = scratchDirectory();
  certificates = await makeCertificates(directory);
  const { ca, cert, key } = certificates.server;
  daemon = await startDaemon(resources, {
    args: ["--host", "tcp://127.0.0.1:0", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key],
  });
  address = new URL(await until(() => /"address":"(tcp:\/\/127\.0\.0\.1:\d+)"/.exec(daemon.output)?.[1]));
});
after(() => resources.disposeAsync());

/** Kills a process, and waits until nothing of it is left. */
async function kill(role: DaemonRole): Promise<number> {
  const pid = await processOf(daemon, role);
  process.kill(pid, "SIGKILL");
  await until(() => !isAlive(pid) || undefined);
  return pid;
}

async function pingOverTls(): Promise<string> {
  const { ca, cert, key } = certificates.client;
  const [caPem, certPem, keyPem] = await Promise.all([ca, cert, key].map((file) => readFile(file)));
  return await new Promise((resolve, reject) => {
    requestHttps(
      {
        host: "127.0.0.1",
        port: address.port,
        path: "/_ping",
        ca: caPem,
        cert: certPem,
        key: keyPem,
        agent: false,
      },
      (response) => text(response).then(resolve, reject),
    )
      .on("error", reject)
      .end();
  });
}

const identity = (path: string): readonly number[] => {
  const { ino, mode, uid, gid } = statSync(path);
  return [ino, mode, uid, gid];
};

test("of the frontend, again and again: who connects then is answered, on the same socket", async () => {
  const file = identity(daemon.socket);
  for (let death = 0; death < 3; death += 1) {
    const pid = await kill("frontend");
    const [plain, overTls] = await Promise.all([callApi(daemon.socket, "GET", "/_ping"), pingOverTls()]);
    assert.deepEqual([plain.text, overTls], ["OK", "OK"]);
    assert.notEqual(findProcess(daemon, "frontend"), pid);
    assert.deepEqual(identity(daemon.socket), file);
  }
});

test("of the frontend: more clients than Node's own queue takes wait", async () => {
  const pid = await processOf(daemon, "frontend");
  process.kill(pid, "SIGSTOP");
  const answers = Array.from({ length: 700 }, () => callApi(daemon.socket, "GET", "/_ping"));
  const settled = Promise.allSettled(answers);
  process.kill(pid, "SIGCONT");
  const failed = (await settled).filter(({ status }) => status === "rejected");
  assert.deepEqual(failed, []);
});

test("of the backend: what is asked then is answered by the next one", async () => {
  const file = identity(daemon.backendSocket);
  for (let death = 0; death < 3; death += 1) {
    const pid = await kill("backend");
    const { status, text: answer } = await callApi(daemon.socket, "GET", "/version");
    assert.equal(status, 200, answer);
    assert.notEqual(findProcess(daemon, "backend"), pid);
    assert.deepEqual(identity(daemon.backendSocket), file);
  }
});

test("of the backend: no answer of the one before is given once the next one runs", inSoak, async () => {
  const call = async (status: number, method: string, path: string, body?: unknown): Promise<unknown> => {
    const answer = await callApi(daemon.socket, method, path, { body });
    assert.equal(answer.status, status, answer.text);
    return answer.text === "" ? undefined : answer.json();
  };
  const names = async (): Promise<unknown> => {
    const list = (await call(200, "GET", `/containers/json?all=1`)) as { readonly Names: unknown }[];
    return list.map(({ Names }) => Names);
  };
  const { Id } = (await call(201, "POST", "/containers/create?name=first", {
    Image: "sockerless/hello",
  })) as { readonly Id: string };
  for (const [before, after] of [
    ["first", "second"],
    ["second", "third"],
  ] as const) {
    const shown = await call(200, "GET", `/containers/${before}/json`);
    assert.deepEqual(await call(200, "GET", `/containers/${before}/json`), shown);
    assert.deepEqual(await names(), [[`/${before}`]]);
    await kill("backend");
    await call(200, "GET", "/version"); // A rename is not repeated where a connection was lost.
    await call(204, "POST", `/containers/${Id}/rename?name=${after}`);
    await call(404, "GET", `/containers/${before}/json`);
    const { Name } = (await call(200, "GET", `/containers/${Id}/json`)) as { readonly Name: string };
    assert.equal(Name, `/${after}`);
    assert.deepEqual(await names(), [[`/${after}`]]);
  }
  await call(204, "DELETE", `/containers/${Id}`);
});

test(
  "of a backend on TCP: what is asked then is answered by the next one, on the same socket",
  inSoak,
  async () => {
    const { ca, cert, key } = certificates.server;
    const port = await freePort();
    await using own = new AsyncDisposableStack();
    const apart = await startDaemon(own, {
      args: ["--listen", `tcp://127.0.0.1:${port}`, "--tlscacert", ca, "--tlscert", cert, "--tlskey", key],
    });
    for (let death = 0; death < 3; death += 1) {
      const pid = await processOf(apart, "backend");
      process.kill(pid, "SIGKILL");
      await until(() => !isAlive(pid) || undefined);
      const waiting = connect(port, "127.0.0.1");
      await once(waiting, "connect"); // Refused, were the socket not held.
      const { status, text: answer } = await callApi(apart.socket, "GET", "/version");
      assert.equal(status, 200, answer);
      waiting.destroy();
    }
    const { error } = await build(apart.socket, 'FROM sockerless/hello\nRUN ["/hello"]\n');
    assert.equal(error, undefined);
  },
);

test("another backend is refused the socket, which goes on to serve", async () => {
  const { ino } = statSync(daemon.backendSocket);
  const directory = scratchDirectory();
  const { code, errorText } = await runCommand(join(checkout, "bin/sockerless"), [
    ...["backend", "local", "--listen", `unix://${daemon.backendSocket}`],
    ...["--state-dir", join(directory, "state"), "--run-dir", join(directory, "run")],
  ]);
  assert.notEqual(code, 0);
  assert.match(errorText, /already serves/);
  assert.equal(statSync(daemon.backendSocket).ino, ino);
});

test("a frontend that ended in peace leaves no address that nobody answers", async () => {
  const pid = await processOf(daemon, "frontend");
  process.kill(pid, "SIGTERM");
  await processOf(daemon, "frontend", pid);
  await until(async () => (await daemon.docker("version")).code === 0 || undefined);
  assert.equal(statSync(daemon.socket).mode & 0o777, 0o660);
  await kill("frontend");
  assert.equal((await callApi(daemon.socket, "GET", "/_ping")).text, "OK");
});

test(
  "the supervisor's end takes the sockets along, and its death keeps nobody from the next start",
  inSoak,
  async () => {
    await daemon.shutDown();
    assert.deepEqual([existsSync(daemon.socket), existsSync(daemon.backendSocket)], [false, false]);
    await daemon.launch();
    await kill("frontend");
    assert.equal((await callApi(daemon.socket, "GET", "/_ping")).text, "OK");
    const pids = [daemon.pid, await processOf(daemon, "frontend"), await processOf(daemon, "backend")];
    for (const pid of pids) {
      process.kill(pid, "SIGKILL");
    }
    await until(() => pids.every((pid) => !isAlive(pid)) || undefined);
    const refused = Promise.withResolvers<void>();
    requestHttp({ socketPath: daemon.socket, path: "/_ping" }, () =>
      refused.reject(new Error("somebody answers")),
    )
      .on("error", () => refused.resolve())
      .end();
    await refused.promise;
    await daemon.launch();
    assert.equal((await callApi(daemon.socket, "GET", "/_ping")).text, "OK");
  },
);
