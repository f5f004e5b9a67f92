/** Measures of one daemon, each as one run. */
import { type EventEmitter, once } from "node:events";
import { tarOf } from "../support/tar.ts";
import { type ApiClient, countToEnd } from "./api-client.ts";
import { percentile } from "./figures.ts";

/** How a figure is to be read. */
export type Unit = "ms" | "MB/s" | "per s" | "MB";

/** The most or the least that our median may be of dockerd's. */
export type Bar = { readonly most: number } | { readonly least: number };

export interface Measure<On = Target> {
  readonly name: string;
  readonly unit: Unit;
  /** The bar: our median against dockerd's, `most` for times, `least` for rates. */
  readonly bar?: Bar;
  /** Runs that make one figure; the figure is their mean. */
  readonly repeat: number;
  run(target: On): Promise<number>;
}

/** A daemon under measurement, and the network its containers are on. */
export interface Target {
  readonly api: ApiClient;
  readonly network: "none" | "bridge";
  /** A running container, for execs and files. */
  readonly container: string;
  /** An exited container that wrote {@link logBytes} of log. */
  readonly logged: string;
}

export const mib = 1024 * 1024;
const streamBytes = 256 * mib;
export const logBytes = 64 * mib;
const archiveBytes = 64 * mib;

/** The script of a container that writes a log of lines of 100 bytes. */
export const logScript = (bytes: number) => `yes ${"x".repeat(99)} | head -c ${bytes}`;

/**
 * The script of a container that writes as much with little work of its own, which would be what is measured: such
 * lines out of a file.
 */
const quickLogScript = (bytes: number) =>
  `${logScript(mib)} > /lines; for n in $(seq ${bytes / mib}); do cat /lines; done`;

/** Creates a container of busybox. */
export async function createContainer(
  { api, network }: Pick<Target, "api" | "network">,
  config: Record<string, unknown>,
): Promise<string> {
  const { Id } = await api.json<{ Id: string }>("POST", "/containers/create", {
    Image: "busybox",
    HostConfig: { NetworkMode: network },
    ...config,
  });
  return Id;
}

/** How long work takes. */
export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** How fast bytes pass, in MB/s. */
export async function rate(bytes: number, work: () => Promise<unknown>): Promise<number> {
  return bytes / mib / ((await milliseconds(work)) / 1000);
}

async function createExec(target: Target, config: Record<string, unknown>): Promise<string> {
  const { Id } = await target.api.json<{ Id: string }>(
    "POST",
    `/containers/${target.container}/exec`,
    config,
  );
  return Id;
}

/** Runs a command to its end. @returns bytes of its output. @throws Error: it fails */
export async function execute(target: Target, cmd: string[]): Promise<number> {
  const id = await createExec(target, { Cmd: cmd, AttachStdout: true, AttachStderr: true });
  const bytes = await countToEnd(await target.api.hijack(`/exec/${id}/start`));
  const { ExitCode } = await target.api.json<{ ExitCode: number }>("GET", `/exec/${id}/json`);
  if (ExitCode !== 0) {
    throw new Error(`the exec ended with ${ExitCode}`);
  }
  return bytes;
}

async function run(target: Target): Promise<void> {
  const id = await createContainer(target, { Cmd: ["true"] });
  await target.api.call("POST", `/containers/${id}/start`);
  await target.api.call("POST", `/containers/${id}/wait`);
  await target.api.call("DELETE", `/containers/${id}`);
}

async function attachedRun(target: Target): Promise<void> {
  const id = await createContainer(target, {
    Cmd: ["echo", "hello"],
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream = await target.api.hijack(`/containers/${id}/attach?stream=1&stdout=1&stderr=1`);
  await target.api.call("POST", `/containers/${id}/start`);
  const bytes = await countToEnd(stream);
  if (bytes !== "hello\n".length + 8) {
    throw new Error(`${bytes} bytes came back`);
  }
  await target.api.call("POST", `/containers/${id}/wait`);
  await target.api.call("DELETE", `/containers/${id}`);
}

/** Round trips of single keys through a terminal with `cat`, 90th percentile. */
async function echo(target: Target): Promise<number> {
  const id = await createExec(target, { Cmd: ["cat"], AttachStdin: true, AttachStdout: true, Tty: true });
  const { socket } = await target.api.hijack(`/exec/${id}/start`, { Tty: true });
  const time = await roundTrip(() => socket.write("k"), socket.resume());
  socket.write("\n\x04");
  socket.end();
  await once(socket, "close");
  return time;
}

/** Round trips of lines that a container reads, and writes into its log, which is followed: 90th percentile. */
async function followLog(target: Target): Promise<number> {
  const id = await createContainer(target, {
    Cmd: ["sh", "-c", "while read line; do echo $line; done"],
    OpenStdin: true,
    StdinOnce: true,
  });
  const { socket } = await target.api.hijack(`/containers/${id}/attach?stream=1&stdin=1`);
  await target.api.call("POST", `/containers/${id}/start`);
  const log = await target.api.stream("GET", `/containers/${id}/logs?follow=1&stdout=1`);
  const time = await roundTrip(() => socket.write("line\n"), log.resume());
  const ended = once(log, "end");
  socket.end();
  socket.resume();
  await ended;
  await target.api.call("POST", `/containers/${id}/wait`);
  await target.api.call("DELETE", `/containers/${id}`);
  return time;
}

/** From a request to what comes back for it, in milliseconds: the 90th percentile. */
async function roundTrip(ask: () => void, answers: EventEmitter): Promise<number> {
  const trips: number[] = [];
  for (let n = 0; n < 300; n++) {
    const answered = once(answers, "data");
    trips.push(
      await milliseconds(() => {
        ask();
        return answered;
      }),
    );
  }
  return percentile(trips, 0.9);
}

/** The output of a container, to a client that is attached: MB/s. */
async function attachOutput(target: Target, script: string): Promise<number> {
  const id = await createContainer(target, {
    Cmd: ["sh", "-c", script],
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream = await target.api.hijack(`/containers/${id}/attach?stream=1&stdout=1&stderr=1`);
  const speed = await rate(logBytes, async () => {
    await target.api.call("POST", `/containers/${id}/start`);
    const bytes = await countToEnd(stream);
    if (bytes < logBytes) {
      throw new Error(`${bytes} bytes came back`);
    }
  });
  await target.api.call("POST", `/containers/${id}/wait`);
  await target.api.call("DELETE", `/containers/${id}`);
  return speed;
}

async function execStdin(target: Target): Promise<void> {
  const id = await createExec(target, {
    Cmd: ["dd", "of=/dev/null", "bs=1M"],
    AttachStdin: true,
    AttachStdout: true,
  });
  const stream = await target.api.hijack(`/exec/${id}/start`);
  const block = Buffer.alloc(mib, "i");
  const send = async (): Promise<void> => {
    for (let sent = 0; sent < streamBytes; sent += block.length) {
      if (!stream.socket.write(block)) {
        await once(stream.socket, "drain");
      }
    }
    stream.socket.end();
  };
  await Promise.all([countToEnd(stream), send()]); // An interruption rejects both.
}

let archive: Buffer | undefined;
async function archiveToPut(): Promise<Buffer> {
  archive ??= await tarOf([{ name: "blob", content: Buffer.alloc(archiveBytes, "archive") }]);
  return archive;
}

export const measures: readonly Measure[] = [
  {
    name: "run",
    unit: "ms",
    bar: { most: 0.28 },
    repeat: 10,
    run: (target) => milliseconds(() => run(target)),
  },
  {
    name: "attached run",
    unit: "ms",
    bar: { most: 0.3 },
    repeat: 10,
    run: (target) => milliseconds(() => attachedRun(target)),
  },
  {
    name: "exec",
    unit: "ms",
    bar: { most: 0.3 },
    repeat: 10,
    run: (target) => milliseconds(() => execute(target, ["true"])),
  },
  {
    name: "32 parallel execs",
    unit: "per s",
    bar: { least: 8 },
    repeat: 3,
    run: async (target) => {
      const all = () => Promise.all(Array.from({ length: 32 }, () => execute(target, ["true"])));
      return 32 / ((await milliseconds(all)) / 1000);
    },
  },
  {
    name: "exec stdout",
    unit: "MB/s",
    repeat: 1,
    run: (target) =>
      rate(streamBytes, () => execute(target, ["dd", "if=/dev/zero", "bs=1M", `count=${streamBytes / mib}`])),
  },
  {
    name: "exec stdin",
    unit: "MB/s",
    repeat: 1,
    run: (target) => rate(streamBytes, () => execStdin(target)),
  },
  {
    name: "archive put",
    unit: "MB/s",
    bar: { least: 1.2 },
    repeat: 1,
    run: async (target) => {
      const body = await archiveToPut();
      return await rate(archiveBytes, async () => {
        const response = await target.api.stream(
          "PUT",
          `/containers/${target.container}/archive?path=/tmp`,
          body,
        );
        response.resume();
        await once(response, "end");
      });
    },
  },
  {
    name: "archive get",
    unit: "MB/s",
    bar: { least: 1.5 },
    repeat: 1,
    run: (target) =>
      rate(archiveBytes, () =>
        target.api.drain("GET", `/containers/${target.container}/archive?path=/tmp/blob`),
      ),
  },
  {
    name: "logs read",
    unit: "MB/s",
    bar: { least: 12 },
    repeat: 1,
    run: (target) =>
      rate(logBytes, () => target.api.drain("GET", `/containers/${target.logged}/logs?stdout=1`)),
  },
  {
    name: "last lines of a log",
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 50,
    run: (target) =>
      milliseconds(() => target.api.call("GET", `/containers/${target.logged}/logs?stdout=1&tail=10`)),
  },
  {
    name: "log write",
    unit: "ms",
    bar: { most: 0.5 },
    repeat: 1,
    run: async (target) => {
      const id = await createContainer(target, { Cmd: ["sh", "-c", logScript(logBytes)] });
      const time = await milliseconds(async () => {
        await target.api.call("POST", `/containers/${id}/start`);
        await target.api.call("POST", `/containers/${id}/wait`);
      });
      await target.api.call("DELETE", `/containers/${id}`);
      return time;
    },
  },
  {
    name: "attach output",
    unit: "MB/s",
    bar: { least: 8 },
    repeat: 1,
    run: (target) => attachOutput(target, quickLogScript(logBytes)),
  },
  {
    name: "attach output, of `yes`",
    unit: "MB/s",
    bar: { least: 8 },
    repeat: 1,
    run: (target) => attachOutput(target, logScript(logBytes)),
  },
  { name: "keystroke echo (p90)", unit: "ms", bar: { most: 1.3 }, repeat: 1, run: echo },
  { name: "log follow (p90)", unit: "ms", bar: { most: 1.3 }, repeat: 1, run: followLog },
  {
    name: "create",
    unit: "ms",
    bar: { most: 0.9 },
    repeat: 10,
    run: async (target) => {
      let id = "";
      const time = await milliseconds(async () => {
        id = await createContainer(target, { Cmd: ["true"] });
      });
      await target.api.call("DELETE", `/containers/${id}`);
      return time;
    },
  },
  {
    name: "list of 200",
    unit: "ms",
    bar: { most: 0.6 },
    repeat: 10,
    run: (target) => milliseconds(() => target.api.call("GET", "/containers/json?all=1")),
  },
  {
    name: "inspect",
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 50,
    run: (target) => milliseconds(() => target.api.call("GET", `/containers/${target.container}/json`)),
  },
];
