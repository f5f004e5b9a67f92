/** The docker CLI over TCP with mutual TLS: the same bytes and exit codes as over the unix socket. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { get } from "node:https";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { callApi } from "../support/call-api.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import type { CommandOptions } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { killAndAwaitNext } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";
import { startDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const resources = new AsyncDisposableStack();
let directory: string;
let certificates: TestCertificates;
let daemon: Daemon;
let address: string;

before(async () => {
  directory = scratchDirectory();
  certificates = await makeCertificates(directory);
  const { ca, cert, key } = certificates.server;
  daemon = await startDaemon(resources, {
    args: ["--host", "tcp://127.0.0.1:0", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key],
  });
  // Its log tells which port it was given.
  address = await until(() => /"address":"(tcp:\/\/127\.0\.0\.1:\d+)"/.exec(daemon.output)?.[1]);
  await daemon.ok("load", "--input", await busyboxArchiveFile());
});
after(() => resources.disposeAsync());

const overTls = (options: CommandOptions, ...args: string[]) => {
  const { ca, cert, key } = certificates.client;
  return daemon.dockerWith(
    options,
    ...["--host", address, "--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key],
    ...args,
  );
};

/** Kills what ends the TLS, or the frontend behind it, once a file is in a container. */
async function killOnce(victim: "terminator" | "frontend", container: string, file: string): Promise<void> {
  await untilTrue(async () => (await daemon.docker("exec", container, "test", "-e", file)).code === 0);
  await killAndAwaitNext(daemon, victim);
}

describe("over mutual TLS", () => {
  for (const victim of ["terminator", "frontend"] as const) {
    for (const tty of [[], ["--tty"]]) {
      const how = [...tty, ""].join(" ");
      test(`a command ${how}whose stream is cut by the death of the ${victim} is told with an error`, async () => {
        const id = await daemon.ok("run", "--detach", "busybox", "sleep", "1d");
        const script = "echo begun; touch /begun; sleep 30; echo lost; exit 0";
        const exec = overTls({}, "exec", ...tty, id, "sh", "-c", script);
        await killOnce(victim, id, "/begun");
        const told = await exec;
        assert.notEqual(told.code, 0, told.text);
        assert.doesNotMatch(told.text, /lost/);
        const execs = JSON.parse(await daemon.ok("inspect", "--format", "{{json .ExecIDs}}", id)) as string[];
        const inspected = await callApi(daemon.socket, "GET", `/v1.51/exec/${execs[0]}/json`);
        assert.equal((inspected.json() as { readonly ExitCode: number }).ExitCode, 255, inspected.text);
        await untilTrue(async () => (await overTls({}, "exec", id, "true")).code === 0);
        await daemon.ok("rm", "--force", id);
      });

      test(`a container ${how}whose attached client is cut by the death of the ${victim} is told with an error`, async () => {
        const name = `cut-${victim}-${tty.length}`;
        const script = "echo begun; touch /begun; sleep 30; echo lost; exit 0";
        const run = overTls({}, "run", ...tty, "--name", name, "busybox", "sh", "-c", script);
        await killOnce(victim, name, "/begun");
        const told = await run;
        assert.notEqual(told.code, 0, told.text);
        assert.doesNotMatch(told.text, /lost/);
        await daemon.ok("rm", "--force", name);
      });
    }
  }

  test("a client that does not read keeps nobody waiting", { timeout: 60_000 }, async (t) => {
    const id = await daemon.ok("run", "--detach", "busybox", "sleep", "1d");
    const { ca, cert, key } = certificates.client;
    const flags = ["--host", address, "--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key];
    const unread = spawn("docker", [...flags, "exec", id, "cat", "/dev/zero"], { env: daemon.clientEnv });
    t.after(() => unread.kill());
    await once(unread.stdout, "readable");
    for (let n = 0; n < 10; n++) {
      await daemon.ok("exec", id, "true");
      assert.equal((await overTls({}, "exec", id, "true")).code, 0);
    }
    await daemon.ok("rm", "--force", id);
  });

  test("an attached run shows everything, what comes late too", async () => {
    const script = "echo early; sleep 0.7; echo late; exit 6";
    const result = await overTls({}, "run", "--rm", "busybox", "sh", "-c", script);
    assert.deepEqual([result.text, result.code], ["early\nlate", 6], result.errorText);
  });

  test("standard input reaches the process, and its end", async () => {
    const input = "through TLS\n".repeat(50_000);
    const result = await overTls({ input }, "run", "--rm", "-i", "busybox", "cat");
    assert.equal(result.stdout.length, input.length, result.errorText);
    assert.equal((await overTls({ input: "" }, "run", "--rm", "-i", "busybox", "cat")).code, 0);
  });

  test("an exec gives its output and exit code", async () => {
    const id = await daemon.ok("run", "-d", "busybox", "sleep", "600");
    for (let n = 0; n < 5; n++) {
      const result = await overTls({ input: `input ${n}` }, "exec", "-i", id, "sh", "-c", `cat; exit ${n}`);
      assert.deepEqual([result.text, result.code], [`input ${n}`, n], result.errorText);
    }
    await daemon.ok("rm", "-f", id);
  });

  test("a client that speaks plain HTTP is told so, whatever it asks and however it comes in", async () => {
    const port = Number(new URL(address).port);
    for (const chunks of [
      ["GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"],
      ["POST /build HTTP/1.1\r\n", "Host: x\r\n"],
    ]) {
      const client = connect({ port, host: "127.0.0.1" });
      for (const chunk of chunks) {
        client.write(chunk);
      }
      const answer = await text(client);
      assert.match(answer, /^HTTP\/1\.[01] 400 Bad Request\r\n/);
      assert.equal(answer.split("\r\n\r\n")[1], "Client sent an HTTP request to an HTTPS server.\n");
    }
    const refused = await daemon.docker("--host", address, "version");
    assert.match(refused.errorText, /Client sent an HTTP request to an HTTPS server\./);
  });

  test("a client that connects and leaves is no trouble", async () => {
    const client = connect({ port: Number(new URL(address).port), host: "127.0.0.1" });
    await once(client, "connect");
    client.end();
    await once(client.resume(), "close");
    assert.equal((await overTls({}, "version")).code, 0);
  });

  test("a client without a certificate is refused", async () => {
    const status = await new Promise<string>((resolve) => {
      get(address.replace("tcp:", "https:"), { path: "/_ping", rejectUnauthorized: false }, (response) =>
        resolve(`served: ${response.statusCode}`),
      ).once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
    assert.match(status, /CERTIFICATE_REQUIRED|ECONNRESET/);
  });

  test("SIGHUP has the certificates read again, and one that is none changes nothing", async () => {
    const { cert } = certificates.server;
    const before = await readFile(cert);
    await writeFile(cert, "no certificate");
    process.kill(daemon.pid, "SIGHUP");
    await until(() => /"process":"frontend".*could not be read again/.exec(daemon.output) ?? undefined);
    await writeFile(cert, before);
    assert.equal((await overTls({}, "version")).code, 0);

    await makeCertificates(directory); // They are another authority's, under the same names.
    assert.notEqual((await overTls({}, "version")).code, 0);
    process.kill(daemon.pid, "SIGHUP");
    await until(async () => (await overTls({}, "version")).code === 0 || undefined);
  });
});
