/** Measures of one daemon, each as one run. */
import { tarOf } from "../support/tar.ts";
import type { ApiClient } from "./api-client.ts";
import type { ContainerConfig, MeasuringClient, Work } from "./measuring-client.ts";

/** How a figure is to be read. */
export type Unit = "ms" | "MB/s" | "per s" | "MB";

/** The most or the least that our median may be of dockerd's, or the most that it may be by itself, in the measure's unit. */
export type Bar = { readonly most: number } | { readonly least: number } | { readonly limit: number };

export interface Measure<On = Target> {
  readonly name: string;
  readonly unit: Unit;
  /** The bar: `most` or `limit` for times, `least` for rates. */
  readonly bar?: Bar;
  /** Runs that make one figure; the figure is their mean. */
  readonly repeat: number;
  run(target: On): Promise<number>;
}

/** A daemon under measurement, and the network its containers are on. */
export interface Target {
  /** Does the work that is measured. */
  readonly client: MeasuringClient;
  /** Prepares that, and removes it. */
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
const lineBytes = 100;
const idBytes = 64;
/** Before each piece of output of a container without a terminal. */
const frameHeaderBytes = 8;

/** The script of a container that writes a log of lines of 100 bytes. */
export const logScript = (bytes: number) => `yes ${"x".repeat(lineBytes - 1)} | head -c ${bytes}`;

/**
 * The script of a container that writes as much with little work of its own, which would be what is measured: such
 * lines out of a file.
 */
const quickLogScript = (bytes: number) =>
  `${logScript(mib)} > /lines; for n in $(seq ${bytes / mib}); do cat /lines; done`;

/** The configuration of a container of busybox. */
export function busybox({ network }: Pick<Target, "network">, config: ContainerConfig): ContainerConfig {
  return { Image: "busybox", HostConfig: { NetworkMode: network }, ...config };
}

/** Creates a container of busybox. */
export async function createContainer(
  target: Pick<Target, "api" | "network">,
  config: ContainerConfig,
): Promise<string> {
  const { Id } = await target.api.json<{ Id: string }>("POST", "/containers/create", busybox(target, config));
  return Id;
}

/** How long work takes. */
export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** How fast bytes have passed, in MB/s. */
export function rate(bytes: number, ms: number): number {
  return bytes / mib / (ms / 1000);
}

/** How long the client takes for some work, in milliseconds. */
const timed =
  (work: (target: Target) => Work): Measure["run"] =>
  (target) =>
    target.client.time(work(target));

/** How fast bytes pass in some work of the client's, in MB/s. */
const rated =
  (bytes: number, work: (target: Target) => Work): Measure["run"] =>
  async (target) =>
    rate(bytes, await target.client.time(work(target)));

/** A request for something, of which so many bytes must come. */
const get = (path: string, bytes: number): Work => ({ work: "call", method: "GET", path, bytes });

/** The output of a container, to a client that is attached. */
const attachedOutput = (target: Target, script: string): Work => ({
  work: "attached output",
  create: busybox(target, { Cmd: ["sh", "-c", script], AttachStdout: true, AttachStderr: true }),
  bytes: logBytes,
});

let archive: Buffer | undefined;
async function archiveToPut(): Promise<Buffer> {
  archive ??= await tarOf([{ name: "blob", content: Buffer.alloc(archiveBytes, "archive") }]);
  return archive;
}

export const measures: readonly Measure[] = [
  {
    name: "run",
    unit: "ms",
    bar: { most: 0.5 },
    repeat: 10,
    run: timed((target) => ({ work: "run", create: busybox(target, { Cmd: ["true"] }) })),
  },
  {
    name: "attached run",
    unit: "ms",
    bar: { most: 0.5 },
    repeat: 10,
    run: timed((target) => ({
      work: "attached run",
      create: busybox(target, { Cmd: ["echo", "hello"], AttachStdout: true, AttachStderr: true }),
      bytes: frameHeaderBytes + "hello\n".length,
    })),
  },
  {
    name: "exec",
    unit: "ms",
    bar: { most: 0.4 },
    repeat: 10,
    run: timed(({ container }) => ({ work: "exec", container, cmd: ["true"], parallel: 1 })),
  },
  {
    name: "32 parallel execs",
    unit: "per s",
    bar: { least: 5 },
    repeat: 3,
    run: async ({ client, container }) =>
      32 / ((await client.time({ work: "exec", container, cmd: ["true"], parallel: 32 })) / 1000),
  },
  {
    name: "exec stdout",
    unit: "MB/s",
    repeat: 1,
    run: rated(streamBytes, ({ container }) => ({
      work: "exec",
      container,
      cmd: ["dd", "if=/dev/zero", "bs=1M", `count=${streamBytes / mib}`],
      parallel: 1,
      bytes: streamBytes,
    })),
  },
  {
    name: "exec stdin",
    unit: "MB/s",
    repeat: 1,
    run: rated(streamBytes, ({ container }) => ({
      work: "exec stdin",
      container,
      cmd: ["dd", "of=/dev/null", "bs=1M"],
      bytes: streamBytes,
    })),
  },
  {
    name: "archive put",
    unit: "MB/s",
    bar: { least: 1.2 },
    repeat: 1,
    run: async ({ client, container }) => {
      const path = `/containers/${container}/archive?path=/tmp`;
      const put = { work: "call", method: "PUT", path, bodyType: "application/x-tar" } as const;
      return rate(archiveBytes, await client.time(put, await archiveToPut()));
    },
  },
  {
    name: "archive get",
    unit: "MB/s",
    bar: { least: 1.5 },
    repeat: 1,
    run: rated(archiveBytes, ({ container }) =>
      get(`/containers/${container}/archive?path=/tmp/blob`, archiveBytes),
    ),
  },
  {
    name: "logs read",
    unit: "MB/s",
    bar: { least: 8 },
    repeat: 1,
    run: rated(logBytes, ({ logged }) => get(`/containers/${logged}/logs?stdout=1`, logBytes)),
  },
  {
    name: "last lines of a log",
    unit: "ms",
    bar: { most: 6 },
    repeat: 50,
    run: timed(({ logged }) => get(`/containers/${logged}/logs?stdout=1&tail=10`, 10 * lineBytes)),
  },
  {
    name: "log write",
    unit: "ms",
    bar: { most: 0.5 },
    repeat: 1,
    run: timed((target) => ({
      work: "unattached run",
      create: busybox(target, { Cmd: ["sh", "-c", logScript(logBytes)] }),
    })),
  },
  {
    name: "attach output",
    unit: "MB/s",
    bar: { least: 8 },
    repeat: 1,
    run: rated(logBytes, (target) => attachedOutput(target, quickLogScript(logBytes))),
  },
  {
    name: "attach output, of `yes`",
    unit: "MB/s",
    bar: { least: 8 },
    repeat: 1,
    run: rated(logBytes, (target) => attachedOutput(target, logScript(logBytes))),
  },
  {
    name: "keystroke echo (p90)",
    unit: "ms",
    bar: { most: 1.3 },
    repeat: 1,
    run: timed(({ container }) => ({ work: "echo", container, cmd: ["cat"] })),
  },
  {
    name: "log follow (p90)",
    unit: "ms",
    bar: { most: 1.3 },
    repeat: 1,
    run: timed((target) => ({
      work: "log follow",
      create: busybox(target, {
        Cmd: ["sh", "-c", "while read line; do echo $line; done"],
        OpenStdin: true,
        StdinOnce: true,
      }),
    })),
  },
  {
    name: "create",
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 10,
    run: timed((target) => ({ work: "create", create: busybox(target, { Cmd: ["true"] }) })),
  },
  {
    name: "list of 200",
    unit: "ms",
    bar: { most: 1.2 },
    repeat: 10,
    run: timed(() => get("/containers/json?all=1", 200 * idBytes)),
  },
  {
    name: "inspect",
    unit: "ms",
    bar: { most: 6 },
    repeat: 50,
    run: timed(({ container }) => get(`/containers/${container}/json`, idBytes)),
  },
];
