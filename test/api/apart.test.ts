/** Frontend and backend as processes of their own with TCP and mutual TLS between them, through the docker CLI. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { json, text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { after, before, describe, test } from "node:test";

import type { TlsFiles } from "../../src/common/config/load.ts";
import { backendUnderTest } from "../support/backend-under-test.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { type CommandOptions, type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { LoneProgram } from "../support/lone-program.ts";
import { recordInstance } from "../support/made.ts";
import { inSoak } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { backendProgram } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const sockerless = join(checkout, "bin/sockerless");
/** Whether a listener admits a client, and shows a certificate of the client's authority. */
async function isAdmitted(address: string, { ca, cert, key }: TlsFiles): Promise<boolean> {
  const [authority, certificate, secret] = await Promise.all([readFile(ca), readFile(cert), readFile(key)]);
  const url = new URL("/grpc.health.v1.Health/Check", address);
  return await new Promise((resolve) => {
    request(url, { ca: authority, cert: certificate, key: secret, agent: false }, (response) => {
      response.resume();
      resolve(true);
    })
      .once("error", () => resolve(false))
      .end();
  });
}

const flagsOf = ({ ca, cert, key }: TlsFiles) => ["--tlscacert", ca, "--tlscert", cert, "--tlskey", key];

describe("a backend on TCP", () => {
  const resources = new AsyncDisposableStack();
  let directory: string;
  let certificates: TestCertificates;
  /** `https://127.0.0.1:port` */
  let backend: string;
  let backendPid: number;

  before(async () => {
    directory = scratchDirectory();
    certificates = await makeCertificates(directory);
    recordInstance(join(directory, "state"));
    const { args, env } = await backendProgram(resources);
    const ofBackend = await LoneProgram.start(
      sockerless,
      [
        ...["backend", ...args, "--listen", "tcp://127.0.0.1:0", ...flagsOf(certificates.server)],
        ...["--state-dir", join(directory, "state"), "--run-dir", join(directory, "run")],
      ],
      env,
    );
    resources.use(ofBackend);
    backendPid = ofBackend.pid;
    backend = ofBackend.readyLine.replace(/^.*tcp:/, "https:");
    await startFrontend("docker.sock", certificates.client);
    await ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    const containers = (await docker("ps", "--all", "--quiet")).text.split("\n").filter((id) => id !== "");
    if (containers.length > 0) {
      await docker("rm", "--force", "--volumes", ...containers);
    }
    await resources.disposeAsync();
  });

  async function startFrontend(socket: string, tls: TlsFiles, address = backend): Promise<LoneProgram> {
    const host = `unix://${join(directory, socket)}`;
    return resources.use(
      await LoneProgram.start(sockerless, [
        ...["frontend", "--publish", "--host", host, "--backend-address", address],
        ...flagsOf(tls),
      ]),
    );
  }

  function dockerWith(options: CommandOptions, ...args: string[]): Promise<CommandResult> {
    const host = `unix://${join(directory, "docker.sock")}`;
    return runCommand("docker", ["--host", host, ...args], options);
  }
  const docker = (...args: string[]) => dockerWith({}, ...args);
  async function ok(...args: string[]): Promise<string> {
    const { code, text: said, errorText } = await docker(...args);
    assert.equal(code, 0, `docker ${args.join(" ")}: ${errorText}`);
    return said;
  }

  test("serves a frontend's runs with their streams and exit codes", async () => {
    const ended = await docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42");
    assert.deepEqual([ended.text, ended.errorText, ended.code], ["out", "err", 42]);
    const input = "through TLS\n".repeat(50_000);
    const copied = await dockerWith({ input }, "run", "--rm", "--interactive", "busybox", "cat");
    assert.ok(copied.stdout.equals(Buffer.from(input)), copied.errorText);
  });

  test("serves execs, files, logs and ports of a container that goes on", async () => {
    const script = "echo up; exec nc -ll -p 80 -e echo served";
    await ok("run", "--detach", "--name=far", "--publish=127.0.0.1::80", "busybox", "sh", "-c", script);
    assert.equal(await until(async () => (await ok("logs", "far")) || undefined), "up");
    const exec = await dockerWith({ input: "typed" }, "exec", "-i", "far", "sh", "-c", "cat; exit 3");
    assert.deepEqual([exec.text, exec.code], ["typed", 3], exec.errorText);
    await writeFile(join(directory, "file"), "content");
    await ok("cp", join(directory, "file"), "far:/file");
    await ok("cp", "far:/file", join(directory, "back"));
    assert.equal(await readFile(join(directory, "back"), "utf8"), "content");
    const port = Number((await ok("port", "far", "80")).split(":").at(-1));
    const said = await until(
      async () => (await text(connect(port, "127.0.0.1")).catch(() => "")) || undefined,
    );
    assert.equal(said, "served\n");
    await ok("rm", "--force", "far");
  });

  test("answers who shows a certificate of its authority, and nobody else", async () => {
    const path =
      "/sockerless.backend.v1.SystemService/GetCapabilities?connect=v1&encoding=json&message=%7B%7D";
    const ask = (options: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer }) =>
      new Promise<unknown>((resolve) => {
        request(new URL(path, backend), { ...options, agent: false }, (response) => resolve(json(response)))
          .once("error", (error: NodeJS.ErrnoException) => resolve(error.code))
          .end();
      });
    const read = async ({ ca, cert, key }: TlsFiles) => ({
      ca: await readFile(ca),
      cert: await readFile(cert),
      key: await readFile(key),
    });
    const ours = await read(certificates.client);
    const answer = (await ask(ours)) as { readonly backend: string };
    assert.equal(answer.backend, backendUnderTest());
    assert.match(String(await ask({ ca: ours.ca })), /CERTIFICATE_REQUIRED|ECONNRESET/);

    const elsewhere = await mkdtemp(join(directory, "strange-"));
    const { cert, key } = await read((await makeCertificates(elsewhere)).client);
    assert.match(String(await ask({ ca: ours.ca, cert, key })), /UNKNOWN_CA|ECONNRESET|EPROTO|ERR_SSL/);
  });

  test("has no run succeed whose output is dropped on the way, as by a network", inSoak, async () => {
    const { port: backendPort, hostname } = new URL(backend);
    let isDropping = false;
    let connections = 0;
    const cable = createServer((near) => {
      const isOfStreams = ++connections > 1;
      const far = connect(Number(backendPort), hostname);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on("data", (bytes: Buffer) => void ((isDropping && isOfStreams) || to.write(bytes)));
        from.on("error", () => {}).on("close", () => to.destroy());
      }
    }).listen(0, "127.0.0.1");
    resources.defer(() => void cable.close());
    await once(cable, "listening");
    const { port } = cable.address() as AddressInfo;
    await startFrontend("cable.sock", certificates.client, `https://127.0.0.1:${port}`);
    const host = `unix://${join(directory, "cable.sock")}`;
    const script = "echo seen; sleep 8; echo unseen";
    const run = runCommand("docker", [
      ...["--host", host, "run", "--rm", "--name", "dropped", "busybox", "sh", "-c", script],
    ]);
    await until(async () => (await docker("logs", "dropped")).text || undefined);
    await delay(1_000); // The client has it, too.
    isDropping = true;
    const { code, text: said } = await run;
    assert.equal(said, "seen");
    assert.notEqual(code, 0);
  });

  test("has a run fail whose streams its frontend's certificate is too old for, until that is read again", async () => {
    const copied = await mkdtemp(join(directory, "frontend-"));
    const files: TlsFiles = {
      ca: join(copied, "ca.pem"),
      cert: join(copied, "client.pem"),
      key: join(copied, "client-key.pem"),
    };
    const give = async (to: TlsFiles, from: TlsFiles): Promise<void> => {
      await Promise.all([copyFile(from.ca, to.ca), copyFile(from.cert, to.cert), copyFile(from.key, to.key)]);
    };
    const reread = async (pid: number, asks: () => Promise<boolean>): Promise<void> => {
      process.kill(pid, "SIGHUP");
      await untilTrue(asks);
    };
    await give(files, certificates.client);
    const frontend = await startFrontend("old.sock", files);
    const old = (...args: string[]) =>
      runCommand("docker", ["--host", `unix://${join(directory, "old.sock")}`, ...args]);
    assert.equal((await old("ps")).code, 0); // Its connection for calls stands from now on.
    const renewed = await makeCertificates(await mkdtemp(join(directory, "renewed-")));
    await give(certificates.server, renewed.server);
    await reread(backendPid, async () => await isAdmitted(backend, renewed.client));
    const lost = await old("run", "--rm", "busybox", "echo", "out");
    assert.notEqual(lost.code, 0);
    assert.match(lost.errorText, /error from daemon in stream: Error attaching/);
    await give(files, renewed.client);
    await reread(frontend.pid, async () => /shown to the backend were read again/.test(frontend.output));
    const ended = await old("run", "--rm", "busybox", "echo", "out");
    assert.deepEqual([ended.code, ended.text], [0, "out"], ended.errorText);
  });
});
