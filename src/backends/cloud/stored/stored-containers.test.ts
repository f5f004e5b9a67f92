import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http2";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Header } from "tar-stream";

import { exportedBytes } from "../../../agent-client/export.ts";
import type { AgentTarget } from "../../../agent-client/address.ts";
import { createAgentClient } from "../../../agent-client/client.ts";
import { systemClock } from "../../../common/clock.ts";
import {
  AgentService,
  ChangeKind,
  type LogsRequest,
  Stream,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { streamOf } from "../../../../test/support/image-store.ts";
import { logRecord as record } from "../../../../test/support/log-record.ts";
import { assertPrivate } from "../../../../test/support/private.ts";
import { entriesOf, type ReadEntry, tarOf } from "../../../../test/support/tar.ts";
import { until } from "../../../../test/support/until.ts";
import { crc32c } from "../../../common/crc32c.ts";
import { FileBudget } from "../../images/file-budget.ts";
import type { LayerReader } from "../../images/layer-headers.ts";
import type { LogPiece } from "../contract/cloud-log.ts";
import { openStoredContainers, type StoredContainers } from "./stored-containers.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const created = "c".repeat(64);
const ended = "e".repeat(64);
const unended = new AbortController().signal;

describe("containers without an agent", () => {
  let directory: string;
  let stored: StoredContainers;
  let cloudLines: LogPiece[];
  let hasCloudLog: boolean;
  let layersOpened: number;
  /** The image's layer, if it is not the usual one. */
  let layer: LayerReader | undefined;
  let live: AgentTarget | undefined;
  let hasRun: boolean;
  let isReadOnly: boolean;
  let nowMs: number;
  let starting: string;
  let workingDirectory: string;
  const cleanUps: (() => void)[] = [];

  beforeEach(async () => {
    directory = scratchDirectory();
    cloudLines = [];
    hasCloudLog = true;
    layersOpened = 0;
    layer = undefined;
    live = undefined;
    hasRun = false;
    isReadOnly = false;
    nowMs = 0;
    starting = "";
    workingDirectory = "/";
    stored = await openStored();
  });
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0)) {
      cleanUp();
    }
    await stored.close();
  });

  const unexpected = {
    [Symbol.asyncIterator]: () => assert.fail("no end is looked for"),
  };

  const reopen = async (): Promise<void> => {
    await stored.close();
    stored = await openStored();
  };

  const openStored = (logDrainMax = 10_000): Promise<StoredContainers> =>
    openStoredContainers({
      stateDir: path.join(directory, "state"),
      runDir: path.join(directory, "run"),
      logDrainMax,
      cloud: {
        isKept: hasCloudLog,
        async *lines(_containerId, { tail }) {
          yield* tail === undefined ? cloudLines : cloudLines.slice(-Number(tail));
        },
        agentLines: () => unexpected,
      },
      liveAgent: () => live,
      isNew: (id) => (id === created ? !hasRun : id === ended ? false : undefined),
      isStarting: (id) => id === starting,
      workingDirectoryOf: () => workingDirectory,
      newContainer: async () => {
        const usual = await tarOf([
          { name: "usr/bin/sh", content: "12345", mode: 0o4755 },
          { name: "bin", type: "symlink", linkname: "usr/bin" },
          { name: "etc/passwd", content: "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n" },
          { name: "etc/group", content: "staff:x:50:\n" },
        ]);
        layersOpened++;
        return {
          layers: [layer ?? { open: () => streamOf(usual) }],
          mounts: [{ destination: "/papers", shows: "elsewhere" as const }],
          isReadOnly,
          [Symbol.asyncDispose]: async () => {
            layersOpened--;
          },
        };
      },
      budget: new FileBudget(20_000, () => nowMs),
      backend: "ecs",
      clock: systemClock,
    });

  function clientOf(containerId: string) {
    const { client, close } = createAgentClient({ kind: "unix", path: stored.socket }, { containerId });
    cleanUps.push(close);
    return client;
  }

  /** An agent that has this log and keeps the archives that it is given. */
  async function agentWith(
    log: () => Iterable<Uint8Array>,
    answersEnd = true,
    beforeEnd: (left: AbortSignal) => Promise<void> = () => Promise.resolve(),
  ) {
    const archives: { path: string; bytes: string }[] = [];
    const made: string[] = [];
    const asked: LogsRequest[] = [];
    let refusal: ConnectError | undefined;
    const needed = new Map<string, string>();
    const server = createServer(
      connectNodeAdapter({
        routes: (router) =>
          router.service(AgentService, {
            async *logs(request, { signal }) {
              asked.push(request);
              let offset = 0n;
              for (const data of log()) {
                yield { message: { case: "chunk" as const, value: { stream: Stream.STDOUT, offset, data } } };
                offset += BigInt(data.length);
              }
              await beforeEnd(signal);
              if (answersEnd) {
                yield { message: { case: "end" as const, value: { totalBytes: offset } } };
              }
            },
            async archivePut(requests) {
              let open = "";
              const chunks: Uint8Array[] = [];
              for await (const { message } of requests) {
                if (message.case === "open") {
                  open = message.value.path;
                  made.push(message.value.workingDirectory);
                } else if (message.case === "chunk") {
                  chunks.push(message.value.data);
                }
              }
              if (refusal !== undefined) {
                throw refusal;
              }
              const before = needed.get(open);
              if (before !== undefined && !archives.some((given) => given.path === before)) {
                throw new ConnectError(`Could not find the file ${open}`, Code.NotFound);
              }
              archives.push({ path: open, bytes: Buffer.concat(chunks).toString() });
              return {};
            },
          }),
      }),
    );
    const socket = path.join(directory, `agent-${cleanUps.length}.sock`);
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    cleanUps.push(() => server.close());
    return {
      target: { address: { kind: "unix" as const, path: socket } },
      archives,
      /** The working directory that came with each archive. */
      made,
      asked,
      /** A directory is missing until something was unpacked into another. */
      needs: (directory: string, before: string) => needed.set(directory, before),
      refuse: (error: ConnectError | undefined) => {
        refusal = error;
      },
    };
  }

  async function logsOf(containerId: string, more: object = {}): Promise<string> {
    const { text, failure } = await toldOf(containerId, more);
    assert.equal(failure, undefined);
    return text;
  }

  /** A log up to its end, or its failure without the reason. */
  async function toldOf(containerId: string, more: object = {}): Promise<{ text: string; failure?: string }> {
    let text = "";
    try {
      for await (const { message } of clientOf(containerId).logs({ stdout: true, stderr: true, ...more })) {
        if (message.case === "chunk") {
          text += Buffer.from(message.value.data).toString();
        } else if (message.case === "end") {
          return { text };
        }
      }
      return { text, failure: "the log was cut" };
    } catch (error) {
      return { text, failure: ConnectError.from(error).rawMessage.replace(/:.*/, "") };
    }
  }

  /** A run that has ended, the agent's first if nothing else is said. */
  const run = (agent: { readonly target: AgentTarget }, generation = 1n) => ({
    agent: agent.target,
    generation,
  });

  describe("logs", () => {
    it("are taken by the next backend where this one ends meanwhile", async () => {
      const [asked, ending] = [Promise.withResolvers<void>(), new AbortController()];
      let isSilent = true;
      const agent = await agentWith(
        () => [record(1, "one\n")],
        true,
        async (left) => {
          asked.resolve();
          await (isSilent ? once(left, "abort") : undefined);
        },
      );
      cloudLines = [];
      const drained = stored.drain(ended, run(agent), ending.signal);
      await asked.promise;
      const reason = new Error("the backend is shutting down");
      ending.abort(reason);
      await assert.rejects(drained, reason);
      isSilent = false;
      await reopen();
      await stored.drain(ended, run(agent), unended);
      assert.equal(await logsOf(ended), "one\n");
    });

    it("are what was drained from their agent", async () => {
      const log = Buffer.concat([record(1, "one\n"), record(2, "two\n", Stream.STDERR)]);
      const agent = await agentWith(() => [log.subarray(0, 30), log.subarray(30)]);
      await stored.drain(ended, run(agent), unended);
      await assertPrivate(path.join(directory, "state/logs"));
      assert.equal(await logsOf(ended), "one\ntwo\n");
      assert.equal(await logsOf(ended, { stdout: false }), "two\n");
      assert.equal(
        await logsOf(ended, { tail: 1n, timestamps: true }),
        "1970-01-01T00:00:00.000000002Z two\n",
      );
      assert.equal(await logsOf(ended, { sinceUnixNs: 2n }), "two\n");
      assert.equal(await logsOf(ended, { follow: true }), "one\ntwo\n");
    });

    it("go on over several tasks, and are taken from one agent as often as it ends a run", async () => {
      let runs = [record(1, "one\n")];
      const first = await agentWith(() => runs);
      await stored.drain(ended, run(first), unended);
      runs = [record(1, "one\n"), record(5, "two\n", Stream.STDOUT, 1)];
      await stored.drain(ended, run(first, 2n), unended);
      const second = await agentWith(() => [record(9, "three\n", Stream.STDOUT, 1)]);
      await stored.drain(ended, run(second), unended);
      assert.equal(await logsOf(ended), "one\ntwo\nthree\n");
      const silent = await agentWith(() => []);
      await stored.drain(ended, run(silent), unended);
      assert.equal(await logsOf(ended), "one\ntwo\nthree\n");
    });

    it("are not put in order by the clocks of tasks, which may differ", async () => {
      for (const [timeNs, text] of [
        [9, "one\n"],
        [1, "two\n"],
        [5, "three\n"],
      ] as const) {
        const agent = await agentWith(() => [record(timeNs, text)]);
        await stored.drain(ended, run(agent), unended);
        await stored.drain(ended, run(agent), unended);
      }
      assert.equal(await logsOf(ended), "one\ntwo\nthree\n");
    });

    it("of a container that runs again are those of its earlier tasks, then what its agent says", async () => {
      const first = await agentWith(() => [record(7, "one\n"), record(8, "two\n", Stream.STDERR)]);
      await stored.drain(ended, run(first), unended);
      const lines = [record(1, "three\n"), record(2, "four\n")];
      const agent: Awaited<ReturnType<typeof agentWith>> = await agentWith(() =>
        agent.asked.at(-1)?.records === true ? lines : [Buffer.from("as the agent shows it\n")],
      );
      live = agent.target;
      const shownByAgent = "as the agent shows it\n";
      assert.equal(await logsOf(ended, { follow: true }), `one\ntwo\n${shownByAgent}`);
      assert.equal(agent.asked.at(-1)?.follow, true);
      assert.equal(await logsOf(ended, { tail: 3n }), `two\n${shownByAgent}`);
      assert.equal(agent.asked.at(-1)?.tail, undefined);
      assert.equal(await logsOf(ended, { tail: 2n }), shownByAgent);
      assert.equal(agent.asked.at(-1)?.tail, 2n);
      assert.equal(await logsOf(ended, { tail: 0n }), shownByAgent);
      assert.equal(agent.asked.at(-1)?.tail, 0n);
      await stored.drain(ended, run(agent), unended);
      assert.equal(await logsOf(ended), `one\ntwo\n${shownByAgent}`, "what was just taken is not told twice");
    });

    it("are no longer asked of an agent once their client has left", { timeout: 15_000 }, async () => {
      await stored.drain(ended, run(await agentWith(() => [record(7, "one\n")])), unended);
      const begun = Promise.withResolvers<void>();
      const left = Promise.withResolvers<void>();
      const agent = await agentWith(
        () => [],
        true,
        async (signal) => {
          begun.resolve();
          signal.addEventListener("abort", () => left.resolve());
          await left.promise;
        },
      );
      live = agent.target;
      const client = new AbortController();
      const logs = clientOf(ended).logs({ stdout: true, tail: 3n }, { signal: client.signal });
      const answer = logs[Symbol.asyncIterator]().next();
      answer.catch(() => undefined);
      await begun.promise;
      client.abort();
      await assert.rejects(answer);
      await left.promise;
    });

    it("are read ahead of clients that do not read on within a budget of all", {
      timeout: 40_000,
    }, async () => {
      const megabyte = 1024 * 1024;
      let sent = 0;
      const agent = await agentWith(function* () {
        for (let at = 0; at < 64; at++) {
          yield new Uint8Array(megabyte / 4);
          sent += megabyte / 4;
        }
      });
      live = agent.target;
      for (let reader = 0; reader < 24; reader++) {
        await clientOf(ended).logs({ stdout: true })[Symbol.asyncIterator]().next();
      }
      for (let [before, same] = [-1, 0]; same < 10; same = sent === before ? same + 1 : 0) {
        before = sent;
        await delay(50);
      }
      assert.ok(sent < 60 * megabyte, `${sent / megabyte} MiB`);
    });

    it("are the cloud's where they could not be taken whole, from then on", async () => {
      const piece = { stream: Stream.STDOUT as const, begins: true, ends: true };
      cloudLines = [
        { ...piece, timeNs: 1n, data: Buffer.from("cloudy\n") },
        { ...piece, timeNs: 2n, data: Buffer.from("cloudier\n") },
      ];
      const cut = await agentWith(() => [record(1, "one\n")], false);
      await assert.rejects(stored.drain(ended, run(cut), unended), /ended before its last message/);
      assert.equal(await logsOf(ended), "cloudy\ncloudier\n");
      assert.equal(await logsOf(ended, { tail: 1n }), "cloudier\n");
      const whole = await agentWith(() => [record(9, "later\n")]);
      await stored.drain(ended, run(whole), unended);
      assert.equal(await logsOf(ended), "cloudy\ncloudier\n");
    });

    it("are the cloud's where those of one run were not taken, from then on", async () => {
      cloudLines = ["taken\n", "left\n"].map((line) => ({
        ...{ stream: Stream.STDOUT as const, begins: true, ends: true, timeNs: 1n },
        data: Buffer.from(line),
      }));
      const agent = await agentWith(() => [record(1, "taken\n")]);
      await stored.drain(ended, run(agent), unended);
      await stored.leaveToCloud(ended, run(agent, 2n));
      await stored.leaveToCloud(ended, undefined);
      assert.equal(await logsOf(ended), "taken\nleft\n");
    });

    it("are what was taken where a crash has kept that from being noted, also between two files", async () => {
      let runs = [record(1, "one\n")];
      const agent = await agentWith(() => runs);
      await stored.drain(ended, run(agent), unended);
      const directoryOfLogs = path.join(directory, "state/logs");
      const [first = ""] = await readdir(directoryOfLogs);
      const firstFile = path.join(directoryOfLogs, first);
      const before = await readFile(firstFile);
      runs = [record(1, "one\n"), record(5, "two\n")];
      await stored.drain(ended, run(agent, 10n), unended);
      await writeFile(firstFile, before); // As if nobody had come to remove it.
      await reopen();
      await stored.leaveToCloud(ended, run(agent, 10n));
      assert.equal(await logsOf(ended), "one\ntwo\n");
      await stored.leaveToCloud(ended, run(agent));
      assert.equal(await logsOf(ended), "", "the cloud has nothing");
      assert.deepEqual(await readdir(directoryOfLogs), [`${ended}.cloud`]);
    });

    it("leave nothing of what crashes have cut off once a later run's is taken", async () => {
      let runs = [record(1, "one\n")];
      const agent = await agentWith(() => runs);
      await stored.drain(ended, run(agent), unended);
      const directoryOfLogs = path.join(directory, "state/logs");
      const [first = ""] = await readdir(directoryOfLogs);
      for (const left of [first.replace(".1.log", ".2.log.new"), first.replace(".1.log", ".0.log")]) {
        await writeFile(path.join(directoryOfLogs, left), "left");
      }
      await reopen();
      runs = [record(1, "one\n"), record(2, "three\n")];
      await stored.drain(ended, run(agent, 3n), unended);
      assert.deepEqual(await readdir(directoryOfLogs), [first.replace(".1.log", ".3.log")]);
      assert.equal(await logsOf(ended), "one\nthree\n");
    });

    it("are what a former version has taken, whose files do not tell the run", async () => {
      let runs = [record(1, "one\n")];
      const agent = await agentWith(() => runs);
      await stored.drain(ended, run(agent), unended);
      const directoryOfLogs = path.join(directory, "state/logs");
      const [name = ""] = await readdir(directoryOfLogs);
      const former = name.replace(".1.log", ".log");
      await rename(path.join(directoryOfLogs, name), path.join(directoryOfLogs, former));
      await reopen();
      assert.equal(await logsOf(ended), "one\n");
      runs = [record(1, "one\n"), record(2, "two\n")];
      await stored.drain(ended, run(agent, 2n), unended);
      assert.equal(await logsOf(ended), "one\ntwo\n");
      assert.deepEqual(await readdir(directoryOfLogs), [name.replace(".1.log", ".2.log")]);
    });

    it("are what was taken where the cloud keeps none", async () => {
      await stored.close();
      hasCloudLog = false;
      stored = await openStored(100);
      const agent = await agentWith(() => [record(1, "taken\n")]);
      await stored.drain(ended, run(agent), unended);
      const large = await agentWith(() => [record(2, "x".repeat(100))]);
      await assert.rejects(stored.drain(ended, run(large), unended), /larger than log_drain_max/);
      await stored.leaveToCloud(ended, undefined);
      const last = await agentWith(() => [record(3, "last\n")]);
      await stored.drain(ended, run(last), unended);
      assert.deepEqual(await toldOf(ended), {
        text: "taken\nlast\n",
        failure: "the log of a run is missing",
      });
      assert.equal((await readdir(path.join(directory, "state/logs"))).length, 3);
      await stored.remove(ended);
      assert.deepEqual(await readdir(path.join(directory, "state/logs")), []);
    });

    it("tell of runs whose logs are lost, where the cloud keeps none, until what was lost is copied", async () => {
      await stored.close();
      hasCloudLog = false;
      stored = await openStored();
      let runs = [record(1, "one\n")];
      const agent = await agentWith(() => runs);
      const gone = await agentWith(() => []);
      await stored.drain(ended, run(agent), unended);
      await stored.leaveToCloud(ended, run(agent, 2n));
      await stored.leaveToCloud(ended, run(agent));
      await stored.leaveToCloud(ended, run(gone));
      await reopen();
      const failed = await agentWith(() => []);
      await stored.leaveToCloud(ended, run(failed, 4n));
      await stored.forgetLoss(ended, 4n);
      const failure = "the log of 2 runs is missing";
      assert.deepEqual(await toldOf(ended), { text: "one\n", failure });
      assert.deepEqual(await toldOf(ended, { tail: 1n }), { text: "one\n", failure });
      assert.equal(await logsOf(ended, { tail: 0n }), "", "nothing is asked for that could be missing");
      const later = BigInt(Date.now() + 60_000) * 1_000_000n;
      assert.equal(await logsOf(ended, { sinceUnixNs: later }), "", "the lost runs were over by then");
      assert.equal((await toldOf(ended, { sinceUnixNs: 1n })).failure, failure);
      runs = [record(1, "one\n"), record(2, "two\n"), record(3, "three\n")];
      await stored.drain(ended, run(agent, 3n), unended);
      const told = await toldOf(ended);
      assert.deepEqual(told, { text: "one\ntwo\nthree\n", failure: "the log of a run is missing" });
    });

    it("are the cloud's where they are larger than is kept", async () => {
      cloudLines = [
        { stream: Stream.STDERR, begins: true, ends: true, timeNs: 1n, data: Buffer.from("cloudy\n") },
      ];
      const large = await agentWith(() => [record(1, "x".repeat(9_000)), record(2, "y".repeat(9_000))]);
      await stored.drain(ended, run(large), unended);
      assert.equal(await logsOf(ended), "cloudy\n");
      assert.deepEqual(await readdir(path.join(directory, "state/logs")), [`${ended}.cloud`]);
    });

    it("are not believed where they are none", async () => {
      const good = record(1, "one\n");
      const bad = Buffer.from(good);
      bad.writeUInt8(0x21, 22);
      for (const bytes of [bad, Buffer.from("nothing of the kind, and long enough"), good.subarray(0, 25)]) {
        const liar = await agentWith(() => [bytes]);
        await stored.remove(ended);
        await assert.rejects(stored.drain(ended, run(liar), unended), /the stored log is damaged/);
      }
    });

    it("are empty where nothing was ever written", async () => {
      assert.equal(await logsOf(created, { follow: true }), "");
    });

    it("go with the container", async () => {
      const agent = await agentWith(() => [record(1, "one\n")]);
      await stored.drain(ended, run(agent), unended);
      await stored.remove(ended);
      assert.deepEqual(await readdir(path.join(directory, "state/logs")), []);
    });
  });

  describe("files", () => {
    it("give way to others once nobody has read on for long", { timeout: 40_000 }, async () => {
      const names = Array.from({ length: 15_000 }, (_, at) => `files/${at}`);
      layer = {
        open: () => streamOf(Buffer.alloc(1024)),
        async *headers() {
          for (const name of names) {
            yield { name, type: "file", size: 0 } as Header;
          }
        },
      };
      const get = () => clientOf(created).archiveGet({ path: "/files" });
      const stalled = get()[Symbol.asyncIterator]();
      await stalled.next();
      await stalled.next();
      await assert.rejects(Array.fromAsync(get()), /too many containers are being read/);
      nowMs += 59_000;
      await stalled.next();
      await assert.rejects(Array.fromAsync(get()), /too many containers are being read/);
      nowMs += 1_000;
      const read = await Array.fromAsync(get());
      assert.equal(read.at(-1)?.message.case, "end");
      await assert.rejects(Array.fromAsync({ [Symbol.asyncIterator]: () => stalled }));
      await until(() => layersOpened === 0 || undefined);
    });

    /** @param tar bytes, as latin1 */
    async function* archive(target: string, tar: string, more: { copyUidGid?: boolean; user?: string } = {}) {
      yield { message: { case: "open" as const, value: { path: target, ...more } } };
      let offset = 0n;
      for (const chunk of [tar.slice(0, 3), tar.slice(3)]) {
        const data = Buffer.from(chunk, "latin1");
        yield { message: { case: "chunk" as const, value: { offset, data } } };
        offset += BigInt(data.length);
      }
      yield { message: { case: "end" as const, value: { totalBytes: offset } } };
    }

    it("wait on the backend's disk for the start, in order, also over a restart of the backend", async () => {
      await clientOf(created).archivePut(archive("/etc", "first tar"));
      await clientOf(created).archivePut(archive("/usr", "second"));
      await assertPrivate(path.join(directory, "state/staged"));
      await writeFile(path.join(directory, "state/staged", created, "cut-off.new"), "cut off by a crash");
      await reopen();
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(agent.archives, [
        { path: "/etc", bytes: "first tar" },
        { path: "/usr", bytes: "second" },
      ]);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.equal(agent.archives.length, 2, "the same agent gets nothing twice");
    });

    it("are given to the agent of each start until one succeeds, and can be read until then", async () => {
      const { signal } = new AbortController();
      const put = await tarBytes([{ name: "put", content: "put" }]);
      await clientOf(created).archivePut(archive("/etc", put));
      const first = await agentWith(() => []);
      await stored.applyStaged(created, first.target, signal);
      await stored.settleStaged(created);
      assert.equal((await got("/etc/put"))[0]?.content, "put");
      await clientOf(created).archivePut(archive("/usr", "tar"));
      await stored.applyStaged(created, first.target, signal);
      assert.deepEqual(
        first.archives.map((given) => given.path),
        ["/etc", "/usr"],
      );
      const second = await agentWith(() => []);
      await stored.applyStaged(created, second.target, signal);
      assert.deepEqual(second.archives, first.archives);
      hasRun = true;
      await stored.settleStaged(created);
      assert.deepEqual(await readdir(path.join(directory, "state/staged")), []);
    });

    it("of a container that runs are forgotten by its next start where the end of a process came before", async () => {
      await clientOf(created).archivePut(archive("/etc", "tar"));
      hasRun = true;
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(agent.archives, []);
      assert.deepEqual(await readdir(path.join(directory, "state/staged")), []);
    });

    it("that come too late for a start are refused, and taken once it has failed", async () => {
      starting = created;
      await clientOf(created).archivePut(archive("/etc", "tar"));
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      const late = () => clientOf(created).archivePut(archive("/etc", "late"));
      await assert.rejects(late(), /started meanwhile/);
      starting = "";
      await late();
    });

    it("that are put at once are all kept, in the order in which the calls end", async () => {
      const second = Promise.withResolvers<void>();
      const first = Promise.withResolvers<void>();
      async function* slow() {
        yield { message: { case: "open" as const, value: { path: "/papers/slow" } } };
        first.resolve();
        await second.promise;
        yield { message: { case: "chunk" as const, value: { offset: 0n, data: Buffer.from("tar") } } };
        yield { message: { case: "end" as const, value: { totalBytes: 3n } } };
      }
      const slowly = clientOf(created).archivePut(slow());
      await first.promise;
      await until(
        async () => (await readdir(path.join(directory, "state/staged"))).includes(created) || undefined,
      );
      await clientOf(created).archivePut(archive("/papers/quick", "tar"));
      second.resolve();
      await slowly;
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(agent.archives, [
        { path: "/papers/quick", bytes: "tar" },
        { path: "/papers/slow", bytes: "tar" },
      ]);
    });

    it("that do not fit in make the start fail, with where they were to go and what helps", async () => {
      await clientOf(created).archivePut(archive("/papers/no/such", "tar"));
      const agent = await agentWith(() => []);
      agent.refuse(new ConnectError("Could not find the file /papers/no/such", Code.NotFound));
      await assert.rejects(stored.applyStaged(created, agent.target, new AbortController().signal), {
        kind: "invalid",
        message:
          /before its start do not fit in at \/papers\/no\/such: Could not find .*; docker cp a directory/,
      });
      agent.refuse(undefined);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.equal(agent.archives.length, 1);
    });

    it("come into a directory of a volume that a later call brings", async () => {
      await clientOf(created).archivePut(
        archive("/papers/late", await tarBytes([{ name: "one", content: "x" }])),
      );
      await assert.rejects(got("/papers/late/one"), /is in a volume/);
      await clientOf(created).archivePut(
        archive("/papers", await tarBytes([{ name: "late/", type: "directory" }])),
      );
      assert.equal((await got("/papers/late/one"))[0]?.content, "x");
      const agent = await agentWith(() => []);
      agent.needs("/papers/late", "/papers");
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(
        agent.archives.map((given) => given.path),
        ["/papers", "/papers/late"],
      );
    });

    it("are refused where there is no directory for them, but in volumes and where every container has one", async () => {
      const put = async (to: string) => clientOf(created).archivePut(archive(to, await tarBytes([])));
      const missing = { code: Code.NotFound, message: /Could not find the file \/nodir/ };
      await assert.rejects(put("/nodir"), missing);
      await assert.rejects(put("/nodir/."), missing);
      await assert.rejects(put("/etc/passwd"), {
        code: Code.InvalidArgument,
        message: /extraction point is not a directory/,
      });
      for (const there of ["/", ".", "/bin", "/bin/.", "/etc", "/papers", "/papers/unknown", "/dev/shm"]) {
        await put(there);
      }
      await clientOf(created).archivePut(
        archive("/", await tarBytes([{ name: "nodir/", type: "directory" }])),
      );
      await put("/nodir");
      isReadOnly = true;
      await assert.rejects(put("/etc"), {
        code: Code.PermissionDenied,
        message: /container rootfs is marked read-only/,
      });
      await put("/papers");
    });

    it("are not kept of a call that was cut", async () => {
      async function* cut() {
        yield* [
          { message: { case: "open" as const, value: { path: "/" } } },
          { message: { case: "chunk" as const, value: { offset: 0n, data: Buffer.from("half") } } },
        ];
      }
      await assert.rejects(clientOf(created).archivePut(cut()), /unexpected EOF/);
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(agent.archives, []);
    });

    it("of a container that has ended are gone, and the setting that keeps them is named", async () => {
      const refused = { code: Code.FailedPrecondition, message: /ecs\.linger/ };
      await assert.rejects(clientOf(ended).archivePut(archive("/", "tar")), refused);
      await assert.rejects(clientOf(ended).archiveStat({ path: "/" }), refused);
      await assert.rejects(async () => {
        for await (const _ of clientOf(ended).archiveGet({ path: "/" })) {
          assert.fail("there is nothing");
        }
      }, refused);
    });

    const tarBytes = async (entries: Parameters<typeof tarOf>[0]) =>
      (await tarOf(entries)).toString("latin1");

    async function changesOf(containerId: string): Promise<string[]> {
      const changes: string[] = [];
      for await (const { message } of clientOf(containerId).changes({})) {
        if (message.case === "change") {
          changes.push(`${ChangeKind[message.value.kind]} ${message.value.path}`);
        } else if (message.case === "end") {
          assert.equal(message.value.count, BigInt(changes.length));
          return changes;
        }
      }
      throw new Error("the changes were cut");
    }

    async function exported(layer: boolean): Promise<ReadEntry[]> {
      const { client, close } = createAgentClient(
        { kind: "unix", path: stored.socket },
        { containerId: created },
      );
      cleanUps.push(close);
      const chunks: Uint8Array[] = [];
      for await (const chunk of exportedBytes(() => client.export({ layer }))) {
        chunks.push(chunk);
      }
      return await entriesOf(Buffer.concat(chunks));
    }

    async function got(asked: string, entries: string[] = []): Promise<ReadEntry[]> {
      const chunks: Uint8Array[] = [];
      let offset = 0n;
      for await (const { message } of clientOf(created).archiveGet({ path: asked, entries })) {
        if (message.case === "stat") {
          assert.equal(offset, 0n);
        } else if (message.case === "chunk") {
          assert.equal(message.value.offset, offset);
          offset += BigInt(message.value.data.length);
          chunks.push(message.value.data);
        } else if (message.case === "end") {
          assert.equal(message.value.totalBytes, offset);
          return await entriesOf(Buffer.concat(chunks));
        }
      }
      throw new Error("the archive was cut");
    }

    it("of a container that has not run differ from its image in nothing but what was put into it", async () => {
      assert.deepEqual(await changesOf(created), []);
      assert.deepEqual(await exported(true), []);
      await clientOf(created).archivePut(archive("/", await tarBytes([{ name: "etc/new", content: "new" }])));
      await clientOf(created).archivePut(archive("/papers", await tarBytes([{ name: "one", content: "x" }])));
      assert.deepEqual(await changesOf(created), ["MODIFIED /etc", "ADDED /etc/new"]);
      const layer = (await exported(true)).map(({ name, content }) => [name, content]);
      assert.deepEqual(layer, [
        ["etc/", ""],
        ["etc/new", "new"],
      ]);
      const { writtenBytes } = await clientOf(created).diskUsage({});
      assert.equal(writtenBytes, 4n, "without a look at the image");
      await assert.rejects(clientOf(ended).diskUsage({}), { code: Code.FailedPrecondition });
      assert.equal(layersOpened, 0, "layers are let go of");
    });

    it("of a container that has not run have its working directory, which the agent makes before they come", async () => {
      workingDirectory = "/bin/new/dir";
      const { stat } = await clientOf(created).archiveStat({ path: "/bin/new/dir" });
      assert.equal(stat?.mode, 2 ** 31 + 0o755);
      const added = ["ADDED /usr/bin/new", "ADDED /usr/bin/new/dir"];
      assert.deepEqual(await changesOf(created), ["MODIFIED /usr", "MODIFIED /usr/bin", ...added]);
      const layer = (await exported(true)).map(({ name, uid, mode }) => [name, uid, mode]);
      assert.deepEqual(layer.slice(-1), [["usr/bin/new/dir/", 0, 0o755]]);
      await clientOf(created).archivePut(
        archive("/bin/new", await tarBytes([{ name: "file", content: "in" }])),
      );
      assert.equal((await got("/bin/new/file"))[0]?.content, "in");
      const agent = await agentWith(() => []);
      await stored.applyStaged(created, agent.target, new AbortController().signal);
      assert.deepEqual(agent.made, ["/bin/new/dir"]);
    });

    it("of a container that has not run are read from its image's layers and what was put into it", async () => {
      const put = [
        { name: "etc/put", content: "put" },
        { name: "usr/bin/sh", content: "other" },
      ];
      await clientOf(created).archivePut(archive("/", await tarBytes(put)));
      const told = (entries: ReadEntry[]) => entries.map(({ name, content }) => `${name} ${content}`);
      assert.deepEqual(told(await got("/bin/sh")), ["sh other"]);
      assert.deepEqual(told(await got("/bin/.")), ["./ ", "./sh other"]);
      assert.deepEqual(told(await got("/bin/./")), ["./ ", "./sh other"]);
      assert.deepEqual(told(await got("/bin")), ["bin "]);
      const asked = ["/", "/usr", "/usr/bin/sh", "/bin", "/bin/sh", "/etc/put/below", "/no/such", "/papers"];
      assert.deepEqual(told(await got("/", asked)), [
        "/ ",
        "/usr/ ",
        "/usr/bin/sh ",
        "/bin ",
        "/bin/sh ",
        "/papers/ ",
      ]);
      const names = (entries: ReadEntry[]) =>
        entries.map(({ name }) => name).toSorted((one, other) => (one < other ? -1 : 1));
      assert.deepEqual(names(await got("/etc")), ["etc/", "etc/group", "etc/passwd", "etc/put"]);
      assert.deepEqual(names(await exported(false)), [
        "bin",
        "etc/",
        "etc/group",
        "etc/passwd",
        "etc/put",
        "papers/",
        "usr/",
        "usr/bin/",
        "usr/bin/sh",
      ]);
      await assert.rejects(got("/no/such"), {
        code: Code.NotFound,
        message: /Could not find the file \/no\/such in container c+/,
      });
      await assert.rejects(got("/bin/sh/."), { code: Code.Internal, message: /not a directory/ });
      assert.equal(layersOpened, 0, "layers are let go of");
    });

    it("that are in a volume are read once the container runs, but for what was put there", async () => {
      await clientOf(created).archivePut(archive("/papers", await tarBytes([{ name: "one", content: "x" }])));
      assert.equal((await got("/papers/one"))[0]?.content, "x");
      for (const asked of ["/papers", "/papers/two", "/"]) {
        await assert.rejects(got(asked), /\/papers\S* of container c+ is in a volume/, asked);
      }
    });

    it("belong to the container's user where the call says so", async () => {
      const entry = await tarBytes([{ name: "own", content: "x", uid: 7, gid: 8 }]);
      for (const [user, owner] of [
        ["app", [1000, 1001]],
        ["app:staff", [1000, 50]],
        ["5", [5, 0]],
        ["", [0, 0]],
        ["nobody", [7, 8]],
      ] as const) {
        const messages = archive("/tmp", entry, { copyUidGid: true, user });
        await clientOf(created).archivePut(
          archive("/", await tarBytes([{ name: "tmp/", type: "directory" }])),
        );
        await clientOf(created).archivePut(messages);
        const [own] = await got("/tmp/own");
        assert.deepEqual([own?.uid, own?.gid], owner, user);
      }
    });

    it("are looked for in its image and in what was put into it", async () => {
      const client = clientOf(created);
      const stat = async (asked: string) => (await client.archiveStat({ path: asked })).stat;
      const sh = await stat("/bin/sh");
      assert.deepEqual([sh?.name, sh?.size, sh?.mode], ["sh", 5n, 0o755 + 2 ** 23]);
      const bin = await stat("/bin");
      assert.deepEqual([bin?.linkTarget, bin?.mode], ["/usr/bin", 2 ** 27 + 0o644]);
      assert.equal((await stat("/"))?.name, "/");
      await assert.rejects(stat("/put/file"), {
        code: Code.NotFound,
        message: /Could not find the file \/put\/file/,
      });
      await client.archivePut(archive("/", await tarBytes([{ name: "put/file", content: "x" }])));
      assert.equal((await stat("/put/file"))?.size, 1n);
      assert.equal((await stat("/put"))?.mode, 2 ** 31 + 0o755);
    });

    it("of one container are looked for in turn, which whoever has left gives up", {
      timeout: 30_000,
    }, async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      let [looks, most, ended] = [0, 0, 0];
      layer = {
        open: () => assert.fail("its headers are known"),
        async *headers() {
          most = Math.max(most, ++looks);
          try {
            await promise;
            yield { name: "file", type: "file", size: 1 } as Header;
          } finally {
            looks--;
            ended++;
          }
        },
      };
      const stay = [1, 2, 3].map(() => clientOf(created).archiveStat({ path: "/file" }));
      await until(() => looks > 0 || undefined);
      const left = new AbortController();
      const go = [1, 2, 3].map(() => clientOf(created).archiveStat({ path: "/" }, { signal: left.signal }));
      await until(() => layersOpened === 6 || undefined);
      left.abort();
      await Promise.allSettled(go);
      await until(() => layersOpened === 3 || undefined);
      resolve();
      await Promise.all(stay);
      assert.deepEqual([most, ended], [1, 3]);
    });

    it("are held for few archives that nobody reads, and for others once these are given up", async () => {
      const target = "t".repeat(4_000);
      layer = {
        open: () => assert.fail("its headers are known"),
        async *headers() {
          for (let number = 0; number < 500; number++) {
            yield { name: `links/${number}`, type: "symlink", linkname: target } as Header;
          }
        },
      };
      const left = new AbortController();
      const unread = [1, 2].map(() =>
        clientOf(created).archiveGet({ path: "/links" }, { signal: left.signal })[Symbol.asyncIterator](),
      );
      await Promise.all(unread.map((each) => each.next()));
      await assert.rejects(clientOf(created).archiveStat({ path: "/" }), { code: Code.Unavailable });
      left.abort();
      await until(() => layersOpened === 0 || undefined);
      await clientOf(created).archiveStat({ path: "/" });
    });

    it("are for known containers only", async () => {
      await assert.rejects(clientOf("f".repeat(64)).archivePut(archive("/", "tar")), { code: Code.NotFound });
    });
  });

  it("are served to the backend's own user only", async () => {
    assert.equal((await stat(stored.socket)).mode & 0o777, 0o600);
  });
});

describe("CRC-32C", () => {
  it("is the one of the specification", () => {
    assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
    assert.equal(crc32c(Buffer.from("6789"), crc32c(Buffer.from("12345"))), 0xe3069283);
    const ascending = Buffer.from(Array.from({ length: 32 }, (_, index) => index)); // RFC 3720, B.4
    assert.equal(crc32c(ascending), 0x46dd794e);
    assert.equal(crc32c(ascending.subarray(13), crc32c(ascending.subarray(0, 13))), 0x46dd794e);
  });
});
