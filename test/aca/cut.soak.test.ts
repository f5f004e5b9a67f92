/**
 * The way between agents and the backend is cut while streams pass it: they go on byte for byte, or their clients are told
 * and never end with 0, also after 30 s in which the network loses everything, and after a cut beyond the limit; and all of
 * it for a frontend that reaches the backend by TCP, as from another machine.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { makeCertificates } from "../support/certificates.ts";
import { beginClient, type ClientUnderWay, count, counted } from "../support/client-under-way.ts";
import { freePort } from "../support/free-port.ts";
import { startTlsEndingProxy, type TlsEndingProxy } from "../support/tls-ending-proxy.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const shortCutMs = 2_000;
const middleCutMs = 30_000;
/** Streams wait for 2 minutes (ADR 105). */
const longCutMs = 135_000;

/** Bytes of a file that is larger than all that lies between two processes. */
const size = 30_000_000;
const lines = 400;

describe("jobs whose agents are cut off", () => testCuts(async () => []));

describe("jobs whose agents are cut off from a backend on TCP", () =>
  testCuts(async (directory) => {
    const own = await mkdtemp(join(directory, "port-")); // The proxy has its certificates in the directory.
    const { ca, cert, key } = (await makeCertificates(own)).server;
    const tls = ["--tlscacert", ca, "--tlscert", cert, "--tlskey", key];
    return ["--listen", `tcp://127.0.0.1:${await freePort()}`, ...tls];
  }));

/** @param args makes arguments of the daemon; files that they need are put into the directory */
function testCuts(args: (directory: string) => Promise<string[]>): void {
  const resources = new AsyncDisposableStack();
  let aca: AcaDaemon;
  let proxy: TlsEndingProxy;
  let digest: string;

  before(async () => {
    const directory = scratchDirectory();
    aca = await AcaDaemon.start({
      daemon: { args: await args(directory) },
      aca: async ({ hostAddress: host }) => {
        const port = await freePort();
        proxy = resources.use(await startTlsEndingProxy(directory, port, { host }));
        return {
          callback_url: `https://${host}:${proxy.port}/sockerless`,
          callback_listen: `tcp://127.0.0.1:${port}`,
          linger: "0s",
          drain_timeout: "2s",
        };
      },
    });
    const { daemon } = aca;
    await daemon.ok("network", "create", "lane");
    const serve = [
      `mkdir /www; head -c ${size} /dev/urandom > /www/big; sha256sum < /www/big > /www/sum`,
      "httpd -h /www -p 8080",
      `while :; do until [ -e /go ]; do usleep 10000; done; rm /go; ${count(lines)}; echo over; done`,
    ];
    const detached = ["run", "--detach", "--network", "lane", "--name"];
    await daemon.ok(...detached, "far", "busybox", "sh", "-c", serve.join("; "));
    await daemon.ok(...detached, "asker", "busybox", "sleep", "1000");
    const sum = (): Promise<string> => daemon.ok("exec", "asker", "wget", "-qO-", "http://far:8080/sum");
    await untilTrue(async () => {
      digest = (await sum().catch(() => "")).slice(0, 64);
      return digest.length === 64;
    });
  });
  after(async () => {
    await aca?.[Symbol.asyncDispose]();
    await resources.disposeAsync();
  });

  interface Streams {
    readonly exec: ClientUnderWay;
    readonly log: ClientUnderWay;
    readonly copy: ClientUnderWay;
    /** Ends with the code of what reads the file of a peer, after its digest. */
    readonly peer: ClientUnderWay;
  }

  /** Clients of each kind, all under way. */
  const begin = async (): Promise<Streams> => {
    const { daemon } = aca;
    // One that reads a connection from a peer, and has read the first of it.
    const read = "(wget -qO- http://far:8080/big; echo $? > /code)";
    const stall = "(head -c 1; touch /begun; until [ -e /read ]; do usleep 10000; done; cat)";
    const told = `rm -f /begun /read; ${read} | ${stall} | sha256sum; exit $(cat /code)`;
    const peer = beginClient(daemon, "exec", "asker", "sh", "-c", told);
    await untilTrue(async () => (await daemon.docker("exec", "asker", "test", "-e", "/begun")).code === 0);
    const log = beginClient(daemon, "logs", "--follow", "--tail", "0", "far");
    const copy = beginClient(daemon, "cp", "far:/www/big", "-");
    await once(copy.output, "data");
    copy.output.pause();
    const exec = beginClient(daemon, "exec", "far", "sh", "-c", `touch /go; ${count(lines)}; exit 3`);
    await untilTrue(() => [exec, log].every((client) => client.text().length > 0));
    return { exec, log, copy, peer };
  };
  const letGo = async (...clients: ClientUnderWay[]): Promise<void> => {
    for (const { output } of clients) {
      output.resume();
    }
    await aca.daemon.docker("exec", "asker", "touch", "/read");
  };
  const digestOf = (copy: ClientUnderWay): string =>
    createHash("sha256")
      .update(copy.text().subarray(512, size + 512))
      .digest("hex");

  /** That streams are whole, but for a peer's connection, which may break. */
  const assertWhole = async ({ exec, log, copy, peer }: Streams): Promise<void> => {
    await letGo(copy);
    assert.deepEqual(await Promise.all([exec.closed, copy.closed]), [3, 0], exec.errors() + copy.errors());
    assert.equal(String(exec.text()), counted(lines));
    assert.equal(digestOf(copy), digest);
    await untilTrue(() => String(log.text()).endsWith("over\n"));
    assert.equal(String(log.text()), `${counted(lines)}over\n`);
    if ((await peer.closed) === 0) {
      assert.equal(String(peer.text()).slice(0, 64), digest);
    }
  };
  const execution = (name: string): Promise<string> =>
    aca.daemon
      .ok("inspect", "--format", "{{.Id}}", name)
      .then((id) => aca.azure.app.executions.find(({ job }) => job.includes(id.slice(0, 12)))?.name ?? "");

  it("have their streams go on byte for byte; a peer's connection breaks, and the next one is made", async () => {
    const streams = await begin();
    proxy.setOpen(false);
    proxy.cut();
    await delay(shortCutMs);
    proxy.setOpen(true);
    await assertWhole(streams);
    assert.equal(await streams.peer.closed, 1, "its reader is told that it broke");
    const again = "wget -qO- http://far:8080/big | sha256sum";
    await untilTrue(async () =>
      (await aca.daemon.docker("exec", "asker", "sh", "-c", again)).text.startsWith(digest),
    );
  });

  it("have their streams go on after 30 s in which the network loses everything", async () => {
    const names = await Promise.all(["far", "asker"].map(execution));
    const streams = await begin();
    await Promise.all(names.map((name) => aca.azure.app.cutNetwork(name)));
    await delay(middleCutMs);
    await Promise.all(names.map((name) => aca.azure.app.restoreNetwork(name)));
    await assertWhole(streams);
  });

  it("have their clients told when the cut is beyond the limit", async () => {
    const streams = await begin();
    proxy.setOpen(false);
    proxy.cut();
    streams.copy.output.resume();
    await delay(longCutMs);
    const { exec, log, copy } = streams;
    const codes = await Promise.all([exec.closed, log.closed, copy.closed]);
    proxy.setOpen(true);
    assert.ok(
      codes.every((code) => code > 0),
      codes.join(),
    );
    assert.match(exec.errors(), /the connection to the agent was cut/);
    assert.match(log.errors() + copy.errors(), /cut|EOF/);
    assert.ok(counted(lines).startsWith(String(exec.text())), "what came is true as far as it goes");
    await letGo();
    assert.notEqual(await streams.peer.closed, 0);
  });

  it("have their clients told when they are gone after it", async () => {
    const streams = await begin();
    const name = await execution("far");
    proxy.setOpen(false);
    proxy.cut();
    aca.azure.app.kill(name);
    const { exec, copy } = streams;
    copy.output.resume();
    const codes = await Promise.all([exec.closed, copy.closed]);
    proxy.setOpen(true);
    assert.ok(
      codes.every((code) => code > 0),
      codes.join(),
    );
    assert.match(exec.errors(), /the connection to the agent was cut: .*the agent is gone/);
    await letGo();
    assert.notEqual(await streams.peer.closed, 0);
    await streams.log.closed;
  });
}
